//! A schedule by one who knows everything: every length, the state and even the chance of every machine, what comes
//! later. It starts from a schedule that some router made and improves it window by window: requests are moved to other
//! machines, sent later, refused, or put in the place of others, and what the touched machines would then do is run
//! through to its end. What is better stays. So it is never worse than where it started; how much better it could be,
//! the bound tells.

use std::collections::BTreeMap;

use fastrand::Rng;
use pointsman::simulation::workload::Workload;
use pointsman::simulation::world::Setup;
use pointsman_policies::units::Micros;

use super::instance::Instance;
use super::record::Step;
use super::what_if::{Fate, Ground, Group, groups};

/// Requests of this long are looked at together.
const WINDOW: Micros = Micros::from_secs(10);
/// What is sent this long after a window is run through with it, so that nothing is gained at its cost.
const AFTER: Micros = Micros::from_secs(8);
/// A request that can wait is not held for longer than this part of the time it has.
const HELD: f64 = 0.6;
/// The part of a window's tries that one request gets which misses: one in so many.
const TRIES_OF_MISSED: usize = 8;
/// And one that could be served for less.
const TRIES_OF_DEAR: usize = 60;
/// How far around a request others are looked for that could make room, milliseconds.
const AROUND_MS: f64 = 3_000.0;

/// How hard to search.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Changes tried for each window.
    pub tries: usize,
    /// How often all windows are gone through.
    pub passes: usize,
    /// Decides what is tried.
    pub seed: u64,
}

/// Improves a plan; machines draw their chance as in a run with this seed.
pub fn improve(
    setup: &Setup<'_>,
    workload: &Workload,
    instance: &Instance,
    run_seed: u64,
    start: &[Option<Step>],
    effort: Effort,
) -> Vec<Option<Step>> {
    let mut plan = start.to_vec();
    for pass in 0..effort.passes {
        let lots = Rng::with_seed(effort.seed.wrapping_add(pass as u64));
        let mut search = Search::new(setup, Ground { workload, instance }, run_seed, plan, lots);
        while search.window(effort.tries) {}
        plan = search.plan;
    }
    plan
}

struct Search<'a> {
    ground: Ground<'a>,
    lots: Rng,
    /// Machines as they are when the window begins.
    groups: Vec<Group>,
    group_of: Vec<usize>,
    pool_of: Vec<usize>,
    plan: Vec<Option<Step>>,
    /// What the plan sends to each group, in order.
    sends: Vec<BTreeMap<(Micros, u32), usize>>,
    begins: Micros,
    ends: Micros,
    /// What each group earns from the beginning of the window on, US dollars, and who misses there.
    earned: Vec<Earned>,
}

#[derive(Clone, Debug, Default)]
struct Earned {
    usd: f64,
    missed: Vec<u32>,
}

/// A change of a plan: requests and where they then go.
type Change = Vec<(u32, Option<Step>)>;

impl<'a> Search<'a> {
    fn new(setup: &Setup<'_>, ground: Ground<'a>, run_seed: u64, plan: Vec<Option<Step>>, lots: Rng) -> Search<'a> {
        let (groups, group_of) = groups(setup, run_seed);
        let pool_of = setup.portfolio.endpoints.iter().map(|endpoint| endpoint.pool).collect();
        let mut sends = vec![BTreeMap::new(); groups.len()];
        for (request, step) in plan.iter().enumerate() {
            if let Some(step) = step {
                sends[group_of[step.endpoint]].insert((step.at, request as u32), step.endpoint);
            }
        }
        let earned = vec![Earned::default(); groups.len()];
        let (begins, ends) = (Micros(0), ground.workload.span + Micros(1));
        Search { ground, lots, groups, group_of, pool_of, plan, sends, begins, ends, earned }
    }

    /// Improves one window and goes on to the next; false after the last.
    fn window(&mut self, tries: usize) -> bool {
        if self.begins >= self.ends && self.sends.iter().all(|sends| sends.range((self.begins, 0)..).next().is_none()) {
            return false;
        }
        let ends = self.begins + WINDOW;
        for group in 0..self.groups.len() {
            self.earned[group] = self.earn(group);
        }
        self.refuse_the_missed(ends);
        let mut targets = self.targets(ends, tries);
        let mut left = tries;
        while left > 0 && !targets.is_empty() {
            let at = self.lots.usize(..targets.len());
            let (request, worth_trying) = &mut targets[at];
            let request = *request;
            *worth_trying -= 1;
            if *worth_trying == 0 {
                targets.swap_remove(at);
            }
            let Some(change) = self.propose(request) else { continue };
            left -= 1;
            if self.try_out(&change) && !self.still_a_target(request) {
                targets.retain(|(other, _)| *other != request);
            }
        }
        self.commit(ends);
        true
    }

    /// Who could fare better: those refused or late, and those that could be served for less.
    fn targets(&self, ends: Micros, tries: usize) -> Vec<(u32, usize)> {
        let requests = &self.ground.workload.requests;
        let first = requests.partition_point(|request| request.at < self.begins);
        let last = requests.partition_point(|request| request.at < ends);
        let new = (first..last).map(|id| id as u32);
        let planned =
            self.sends.iter().flat_map(|sends| sends.range((self.begins, 0)..(ends, 0)).map(|((_, id), _)| *id));
        let all: std::collections::BTreeSet<u32> = new.chain(planned).collect();
        let each = |id: &u32| match self.plan[*id as usize] {
            None => tries / TRIES_OF_MISSED,
            Some(_) if self.could_cost_less(*id) => (tries / TRIES_OF_DEAR).max(2),
            Some(_) => 0,
        };
        all.into_iter().map(|id| (id, each(&id))).filter(|(_, tries)| *tries > 0).collect()
    }

    fn still_a_target(&self, request: u32) -> bool {
        self.plan[request as usize].is_none() || self.could_cost_less(request)
    }

    fn could_cost_less(&self, request: u32) -> bool {
        let Some(step) = self.plan[request as usize] else { return false };
        let ask = &self.ground.instance.asks[request as usize];
        let usd = |pool: usize| self.ground.instance.machines[pool].usd(ask);
        let now = usd(self.pool_of[step.endpoint]);
        self.pool_of.iter().any(|pool| usd(*pool) < now * 0.999)
    }

    /// Who misses wastes money and time: better not to send it.
    fn refuse_the_missed(&mut self, ends: Micros) {
        let missed: Vec<u32> = self.earned.iter().flat_map(|earned| earned.missed.iter().copied()).collect();
        for request in missed {
            let planned = self.plan[request as usize].is_some_and(|step| step.at >= self.begins && step.at < ends);
            if planned {
                self.try_out(&vec![(request, None)]);
            }
        }
    }

    /// A change that may help a request.
    fn propose(&mut self, request: u32) -> Option<Change> {
        let ask = &self.ground.instance.asks[request as usize];
        let endpoint = self.lots.usize(..self.pool_of.len());
        let current = self.plan[request as usize];
        if let Some(step) = current {
            let usd = |endpoint: usize| self.ground.instance.machines[self.pool_of[endpoint]].usd(ask);
            if usd(endpoint) >= usd(step.endpoint) * 0.999 {
                return None;
            }
        }
        let at = self.moment(request);
        let mut change = vec![(request, Some(Step { at, endpoint }))];
        if self.lots.u8(..2) == 0
            && let Some(other) = self.neighbour(request, at, endpoint)
        {
            let elsewhere = self.lots.usize(..self.pool_of.len());
            let step = Step { at: self.moment(other), endpoint: elsewhere };
            // Now and then the other is given up for this one.
            change.push((other, (self.lots.u8(..6) > 0).then_some(step)));
        }
        Some(change)
    }

    /// When a request might be sent: at once, or after a while that it can wait.
    fn moment(&mut self, request: u32) -> Micros {
        let ask = &self.ground.instance.asks[request as usize];
        let earliest = ask.at.max(self.begins);
        let waited_ms = (earliest - ask.at).as_ms();
        let slack_ms = ask.first_within_ms().min(1e7) * HELD - waited_ms;
        if slack_ms <= 0.0 || self.lots.u8(..3) == 0 {
            return earliest;
        }
        // Mostly a short while: the cube of a draw.
        earliest + Micros::from_ms(slack_ms * self.lots.f64().powi(3))
    }

    /// Somebody who is sent to the same machines at about the same time.
    fn neighbour(&mut self, request: u32, at: Micros, endpoint: usize) -> Option<u32> {
        let around = Micros::from_ms(AROUND_MS);
        let from = (at - around).max(self.begins);
        let sends = &self.sends[self.group_of[endpoint]];
        let near: Vec<u32> = sends
            .range((from, 0)..(at + around, 0))
            .filter(|((_, other), to)| **to == endpoint && *other != request)
            .map(|((_, other), _)| *other)
            .collect();
        near.get(self.lots.usize(..near.len().max(1))).copied()
    }

    /// Makes a change if it earns more.
    fn try_out(&mut self, change: &Change) -> bool {
        let undo: Change = change.iter().map(|(request, _)| (*request, self.plan[*request as usize])).collect();
        let mut touched: Vec<usize> =
            change.iter().chain(&undo).filter_map(|(_, step)| step.map(|step| self.group_of[step.endpoint])).collect();
        touched.sort_unstable();
        touched.dedup();
        let before = touched.iter().map(|group| self.earned[*group].usd).sum::<f64>() + self.promised(change);
        self.apply(change);
        let earned: Vec<Earned> = touched.iter().map(|group| self.earn(*group)).collect();
        let after = earned.iter().map(|earned| earned.usd).sum::<f64>() + self.promised(change);
        if after > before + 1e-12 {
            for (group, earned) in touched.into_iter().zip(earned) {
                self.earned[group] = earned;
            }
            return true;
        }
        self.apply(&undo);
        false
    }

    fn apply(&mut self, change: &Change) {
        for (request, step) in change {
            if let Some(before) = std::mem::replace(&mut self.plan[*request as usize], *step) {
                self.sends[self.group_of[before.endpoint]].remove(&(before.at, *request));
            }
            if let Some(step) = step {
                self.sends[self.group_of[step.endpoint]].insert((step.at, *request), step.endpoint);
            }
        }
    }

    /// What requests of a change will earn that are sent after all that is run through: they have time.
    fn promised(&self, change: &Change) -> f64 {
        let horizon = self.begins + WINDOW + AFTER;
        let later = change.iter().filter_map(|(request, _)| {
            let step = self.plan[*request as usize].filter(|step| step.at >= horizon)?;
            let (instance, ask) = (self.ground.instance, &self.ground.instance.asks[*request as usize]);
            Some(instance.value_usd(ask) - instance.machines[self.pool_of[step.endpoint]].usd(ask))
        });
        later.sum()
    }

    /// What a group earns from the beginning of the window on.
    fn earn(&self, group: usize) -> Earned {
        let horizon = self.begins + WINDOW + AFTER;
        let mut machines = self.groups[group].clone();
        for ((at, request), endpoint) in self.sends[group].range((self.begins, 0)..(horizon, 0)) {
            machines.send(*at, *request, *endpoint);
        }
        let mut fates = Vec::new();
        machines.run(&self.ground, None, &mut fates);
        let mut earned = Earned::default();
        for Fate { request, kept, taken } in fates {
            let ask = &self.ground.instance.asks[request as usize];
            if kept {
                earned.usd += self.ground.instance.value_usd(ask);
            } else {
                earned.missed.push(request);
            }
            if taken && let Some(step) = self.plan[request as usize] {
                earned.usd -= self.ground.instance.machines[self.pool_of[step.endpoint]].usd(ask);
            }
        }
        earned
    }

    /// What is planned up to the end of the window is done; the next begins there.
    fn commit(&mut self, ends: Micros) {
        let mut fates = Vec::new();
        for (group, sends) in self.groups.iter_mut().zip(&self.sends) {
            for ((at, request), endpoint) in sends.range((self.begins, 0)..(ends, 0)) {
                group.send(*at, *request, *endpoint);
            }
            group.run(&self.ground, Some(ends), &mut fates);
        }
        self.begins = ends;
    }
}
