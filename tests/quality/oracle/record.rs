//! What a router did with each request and how the request fared, written down beside the router.

use std::cell::RefCell;
use std::rc::Rc;

use pointsman::simulation::report::Report;
use pointsman::simulation::router::{Act, Arrival, Ended, Router, Seen, TurnedAway};
use pointsman::simulation::workload::Workload;
use pointsman_policies::attain::{Observed, parts_kept};
use pointsman_policies::units::Micros;

use super::instance::Instance;

/// Where a request was sent and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Micros,
    /// Where.
    pub endpoint: usize,
}

/// What became of each request.
#[derive(Clone, Debug, Default)]
pub struct Record {
    first: Vec<Option<Micros>>,
    answers: Vec<Option<Answer>>,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    step: Step,
    at: Micros,
    itl_ms: Option<f64>,
    output_tokens: u64,
}

impl Record {
    /// The attempt that answered each request; `None` where nobody did.
    pub fn plan(&self, requests: usize) -> Vec<Option<Step>> {
        let mut plan: Vec<_> = self.answers.iter().map(|answer| answer.map(|answer| answer.step)).collect();
        plan.resize(requests, None);
        plan
    }

    /// Whether each promise was kept.
    pub fn kept(&self, workload: &Workload, instance: &Instance) -> Vec<bool> {
        let kept = |(id, ask): (usize, &super::instance::Ask)| {
            let Some(Some(answer)) = self.answers.get(id) else { return false };
            let came = workload.requests[id].at;
            let first = self.first.get(id).copied().flatten();
            let observed = Observed {
                streamed: ask.streamed,
                ttft_ms: first.map(|first| (first - came).as_ms()),
                itl_ms: answer.itl_ms,
                total_ms: (answer.at - came).as_ms(),
                output_tokens: answer.output_tokens,
            };
            parts_kept(&ask.slo, &observed).all(|(_, kept)| kept)
        };
        instance.asks.iter().enumerate().map(kept).collect()
    }

    /// Value of the promises kept less the money spent, US dollars.
    pub fn utility_usd(&self, workload: &Workload, instance: &Instance, report: &Report) -> f64 {
        let kept = self.kept(workload, instance);
        let value: f64 =
            instance.asks.iter().zip(kept).filter(|(_, kept)| *kept).map(|(ask, _)| instance.value_usd(ask)).sum();
        value - report.usd()
    }

    fn slot<T: Clone>(column: &mut Vec<Option<T>>, id: u32) -> &mut Option<T> {
        let id = id as usize;
        if column.len() <= id {
            column.resize(id + 1, None);
        }
        &mut column[id]
    }
}

/// A router with somebody who writes down what happens to it.
pub struct Watched<'a> {
    router: Box<dyn Router + 'a>,
    record: Rc<RefCell<Record>>,
}

impl<'a> Watched<'a> {
    /// Watches a router; several may share a record.
    pub fn boxed(router: Box<dyn Router + 'a>, record: &Rc<RefCell<Record>>) -> Box<dyn Router + 'a> {
        Box::new(Watched { router, record: Rc::clone(record) })
    }
}

impl Router for Watched<'_> {
    fn name(&self) -> &str {
        self.router.name()
    }

    fn arrive(&mut self, now: Micros, arrival: &Arrival<'_>, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.router.arrive(now, arrival, seen, acts);
    }

    fn first_token(&mut self, now: Micros, request: u32, endpoint: usize, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        Record::slot(&mut self.record.borrow_mut().first, request).get_or_insert(now);
        self.router.first_token(now, request, endpoint, seen, acts);
    }

    fn ended(&mut self, now: Micros, ended: &Ended, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        if !ended.broken {
            let step = Step { at: ended.sent, endpoint: ended.endpoint };
            let answer = Answer { step, at: now, itl_ms: ended.itl_ms, output_tokens: ended.output_tokens };
            Record::slot(&mut self.record.borrow_mut().answers, ended.request).get_or_insert(answer);
        }
        self.router.ended(now, ended, seen, acts);
    }

    fn turned_away(&mut self, now: Micros, away: &TurnedAway, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.router.turned_away(now, away, seen, acts);
    }

    fn next_wake(&self) -> Option<Micros> {
        self.router.next_wake()
    }

    fn wake(&mut self, now: Micros, seen: &Seen<'_>, acts: &mut Vec<Act>) {
        self.router.wake(now, seen, acts);
    }
}
