//! Lets a stream that breaks go on on another machine, from what its client has of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use pointsman_backends::dialects::EventKind;
use pointsman_backends::dialects::openai::continuation::{Next, Said, Seam, Unable};
use pointsman_backends::fleet::{Dispatched, Verdict, Work};
use pointsman_policies::facts::Api;
use tokio::time::{Instant, timeout_at};

use super::Answer;
use super::body::Prompt;
use super::failure::{Failure, may_retry};
use super::forward::{Added, Opened, Won, added_headers, begin_attempt, one_attempt};
use super::keeping::Keeping;
use super::opening::Opening;
use crate::gateway::Gateway;
use crate::record::{BROKEN_OFF, Continued, DecisionRecord, OUTRUN, Record};

/// The largest request that is kept until its stream has ended, bytes: long prompts are many, streams that break are few.
const LARGEST_KEPT: usize = 2 << 20;

/// Why a stream does not go on where too many may have to.
const FULL: Unable = "`limits.continuation_bytes` are kept for other streams";

/// What a stream needs to go on elsewhere.
pub(super) struct Mending {
    keeping: Keeping,
    request_bytes: usize,
    prompt: Prompt,
    said: Said,
    /// Since another machine goes on.
    seam: Option<Seam>,
    trying: Option<Trying>,
    broke: String,
    /// Whether the client is still to be told that it went on elsewhere, or that its usage is a guess.
    untold: bool,
    /// Whether its usage is a guess.
    guessed: bool,
}

type Trying = Pin<Box<dyn Future<Output = Result<(Opening, Dispatched), Failure>> + Send>>;

/// How a stream that broke goes on.
pub(super) enum Mended {
    /// Another machine is being asked.
    Asking,
    /// Only these events were missing.
    Lacking(Vec<Bytes>),
    /// Not at all.
    No,
}

/// Keeps what an answer needs to go on elsewhere, should it break, where its route wants that and machines can.
pub(super) fn keep(mut response: Response<Answer>, prompt: Prompt) -> Response<Answer> {
    if let Answer::Relay(relay) = response.body_mut() {
        relay.may_go_on(prompt);
    }
    response
}

impl Mending {
    /// Of an answer that has begun; an error says why it could not go on elsewhere, `None` that nobody wants it to.
    pub(super) fn of(gateway: &Gateway, record: &Record, prompt: Prompt) -> Result<Option<Mending>, Unable> {
        let Some(made) = &record.decision else { return Ok(None) };
        let route = made.deciding().policy.routes.get(made.route);
        let able = made.snapshot.portfolio.pools.iter().any(|pool| pool.continues_answers);
        if !able || !route.is_some_and(|route| route.continue_broken_streams) {
            return Ok(None);
        }
        if prompt.api != Api::ChatCompletions {
            return Err("only chats are continued");
        }
        if prompt.parsed.tools > 0 {
            return Err("tools");
        }
        if record.text.choices != 1 {
            return Err("n");
        }
        if prompt.bytes() > LARGEST_KEPT {
            return Err("its request is larger than is kept");
        }
        let most = made.snapshot.process.edge.continuation_bytes;
        let mut keeping = Keeping::new(gateway.kept_for_continuation(), most);
        let request_bytes = prompt.memory();
        if !keeping.hold(request_bytes) {
            return Err(FULL);
        }
        let (said, broke) = (Said::default(), String::new());
        Ok(Some(Mending {
            keeping,
            request_bytes,
            prompt,
            said,
            seam: None,
            trying: None,
            broke,
            untold: false,
            guessed: false,
        }))
    }

    /// An event with content as the client gets it; `None` where the client has it.
    pub(super) fn pass(&mut self, event: Bytes) -> Option<Bytes> {
        let event = match &mut self.seam {
            Some(seam) => seam.join(event)?,
            None => event,
        };
        self.said.note(&event);
        if !self.keeping.hold(self.memory()) {
            self.said.give_up(FULL);
        }
        Some(event)
    }

    /// What is kept for it.
    fn memory(&self) -> usize {
        self.request_bytes + self.said.bytes()
    }

    /// Why nothing of what is kept is of use any more, if so: it cannot go on elsewhere, and has not.
    pub(super) fn is_over(&self) -> Option<Unable> {
        self.said.unable().filter(|_| self.seam.is_none())
    }

    /// Whether another machine is being asked.
    pub(super) fn is_asking(&self) -> bool {
        self.trying.is_some()
    }

    /// The stream broke. What was said so far is the machine's whose attempt stands last.
    pub(super) fn begin(&mut self, gateway: &Arc<Gateway>, record: &mut Record, why: &str, until: Instant) -> Mended {
        let next = match self.said.next(self.prompt.body(), record.input_tokens) {
            Ok(next) => next,
            Err(unable) => {
                record.not_continued = Some(unable);
                return Mended::No;
            }
        };
        let said = if let Next::Bound { tokens, .. } = next { tokens } else { self.said.tokens() };
        let output_tokens = said.saturating_sub(record.said_before());
        self.guessed |= said > 0 && !self.said.is_told();
        let ended = record.elapsed();
        if let Some(attempt) = record.attempts.last_mut() {
            gateway.telemetry().metrics().attempt_failed(&attempt.pool, BROKEN_OFF);
            attempt.ended = ended;
            attempt.failure = Some(format!("the stream broke after {output_tokens} tokens: {why}"));
            attempt.cause = BROKEN_OFF;
            attempt.continued = Some(Continued { output_tokens, usd: 0.0 });
        }
        why.clone_into(&mut self.broke);
        self.untold = true;
        match next {
            Next::Bound { events, .. } => {
                self.seam = None; // they are ours
                Mended::Lacking(events)
            }
            Next::Ask { body, seam } => {
                self.seam = Some(seam);
                match self.ask(gateway, record, body, until) {
                    true => Mended::Asking,
                    false => Mended::No,
                }
            }
        }
    }

    /// What came of asking; `None` where nobody is left to be asked.
    pub(super) fn poll(
        &mut self,
        gateway: &Arc<Gateway>,
        record: &mut Record,
        until: Instant,
        context: &mut Context<'_>,
    ) -> Poll<Option<(Opening, Dispatched)>> {
        while let Some(trying) = &mut self.trying {
            let failure = match std::task::ready!(trying.as_mut().poll(context)) {
                Ok(opened) => {
                    self.trying = None;
                    self.keeping.hold(self.memory());
                    return Poll::Ready(Some(opened));
                }
                Err(failure) => failure,
            };
            self.trying = None;
            note(gateway, record, failure);
            if let Ok(Next::Ask { body, seam }) = self.said.next(self.prompt.body(), record.input_tokens) {
                self.seam = Some(seam);
                self.ask(gateway, record, body, until);
            }
        }
        Poll::Ready(None)
    }

    /// The report that the client asked for, of an answer that broke between its last event and that.
    pub(super) fn missing_report(&mut self, record: &Record) -> Option<Bytes> {
        let report = self.said.report(self.prompt.body(), record.input_tokens)?;
        self.seam = None; // it is ours
        self.guessed |= !self.said.is_told();
        self.untold |= self.guessed;
        Some(report)
    }

    /// Tokens that were said in so many events: since what is said cannot go on elsewhere, events are the best count.
    pub(super) fn tokens(&self, events: u64) -> u64 {
        match self.said.unable() {
            Some(_) => self.said.tokens().max(events),
            None => self.said.tokens(),
        }
    }

    /// Whether what is reported of them is a guess.
    pub(super) fn is_guessed(&self) -> bool {
        self.guessed
    }

    /// Why the stream broke at first.
    pub(super) fn broke(&self) -> &str {
        &self.broke
    }

    /// Tells the client, once, that its answer went on elsewhere, or that its usage is a guess: a comment, which SDKs skip.
    pub(super) fn trailer(&mut self, record: &Record) -> Option<Bytes> {
        std::mem::take(&mut self.untold).then(|| {
            let names: Vec<&str> = record
                .attempts
                .iter()
                .filter_map(|attempt| {
                    let spoke = attempt.continued.is_some() || attempt.failure.is_none();
                    spoke.then_some(attempt.endpoint.as_str())
                })
                .collect();
            let continued = names.len().saturating_sub(1);
            let usage = if self.guessed { "; usage: estimated" } else { "" };
            Bytes::from(format!(": x-pointsman-continued: {continued}; endpoints: {}{usage}\n\n", names.join(" ")))
        })
    }

    /// Asks the best machine that has not been tried. Whether there is one and the route's budget allows it.
    fn ask(&mut self, gateway: &Arc<Gateway>, record: &mut Record, body: Vec<u8>, until: Instant) -> bool {
        let (Some(made), Some(prompt)) = (record.decision.clone(), self.prompt.with_body(body)) else { return false };
        if Instant::now() >= until {
            record.not_continued = Some("its time was up");
            return false;
        }
        let Some(endpoint) = best(gateway, &made, record) else {
            record.not_continued = Some("no other machine can go on with it");
            return false;
        };
        if !self.keeping.hold(self.memory() + prompt.memory()) {
            record.not_continued = Some(FULL);
            return false;
        }
        if !may_retry(gateway, record) {
            record.not_continued = Some("its route has no attempts left");
            return false;
        }
        let Some(target) = made.snapshot.target(endpoint) else { return false };
        begin_attempt(record, endpoint, &target);
        record.hardware = Some(target.facts.kind);
        let (added, said) = (added_headers(record), self.said.tokens());
        let asked = Asked { made, endpoint, prompt, added, said };
        self.trying = Some(Box::pin(asked.answered(Arc::clone(gateway), until)));
        true
    }
}

/// The best machine as things stand that can go on with a request and has not failed it.
fn best(gateway: &Gateway, made: &DecisionRecord, record: &Record) -> Option<usize> {
    let failed = |endpoint: usize| {
        record
            .attempts
            .iter()
            .any(|attempt| attempt.index == endpoint && attempt.failure.is_some() && attempt.cause != OUTRUN)
    };
    let states = made.snapshot.endpoint_states(gateway.fleet().now());
    let able = made.again(&states).candidates.into_iter().filter_map(|candidate| {
        let target = made.snapshot.target(candidate.endpoint)?;
        let scored = candidate.verdict.ok()?;
        (target.pool.continues_answers && !failed(candidate.endpoint)).then_some((candidate, scored))
    });
    let best = able.min_by(|(one, first), (other, second)| {
        let order = one.tier.cmp(&other.tier).then(second.room.cmp(&first.room));
        order.then(second.feasible().cmp(&first.feasible())).then(first.score.total_cmp(&second.score))
    });
    best.map(|(candidate, _)| candidate.endpoint)
}

/// Books that a machine did not go on.
fn note(gateway: &Gateway, record: &mut Record, failure: Failure) {
    let ended = record.elapsed();
    if let Some(attempt) = record.attempts.last_mut() {
        gateway.telemetry().metrics().attempt_failed(&attempt.pool, failure.cause);
        attempt.ended = ended;
        attempt.status = failure.status;
        attempt.cause = failure.cause;
        attempt.failure = Some(failure.message);
    }
}

/// A machine that is asked to go on.
struct Asked {
    made: Arc<DecisionRecord>,
    endpoint: usize,
    prompt: Prompt,
    added: Added,
    /// Tokens that were said before.
    said: u64,
}

impl Asked {
    async fn answered(self, gateway: Arc<Gateway>, until: Instant) -> Result<(Opening, Dispatched), Failure> {
        let Asked { made, endpoint, prompt, added, said } = self;
        let snapshot = Arc::clone(&made.snapshot);
        let target = snapshot.target(endpoint).ok_or_else(|| no("the machine is gone", None))?;
        let work = made.work(endpoint);
        let work = Work {
            input_tokens: work.input_tokens.saturating_add(said),
            output_tokens: work.output_tokens.saturating_sub(said).max(1),
            ..work
        };
        let begun = made.begin_as(endpoint, work, gateway.fleet().now());
        let begun = begun.transpose().map_err(|shortage| Failure::out_of_lease(shortage.retry_after))?;
        let planned_ms = made.plan.as_ref().and_then(|plan| plan.attempts.first()).map(|first| first.first_byte_ms);
        let planned = planned_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok());
        let first_byte = snapshot.process.timeouts.first_byte.min(planned.unwrap_or(Duration::MAX));
        let what = (Some(Arc::clone(&made)), endpoint, begun, first_byte);
        let trying = one_attempt(&gateway, (&snapshot, &prompt, &added), what, target);
        let Won { opened, dispatched, .. } = timeout_at(until, trying)
            .await
            .map_err(|_| no("the answer took longer than `timeouts.total_s`", None))??;
        match opened {
            Opened::Answer { opening, .. } if opening.streamed && !complains(&opening) => Ok((opening, dispatched)),
            Opened::Answer { head, .. } | Opened::CallersMistake { head, .. } => {
                dispatched.refused(gateway.fleet().now());
                let status = head.status.as_u16();
                Err(no(&format!("it would not go on with the answer: status {status}"), Some(status)))
            }
        }
    }
}

/// Whether an answer begins with an error event, though no machine failed.
fn complains(opening: &Opening) -> bool {
    opening.first.iter().any(|event| opening.source.dialect.event_kind(event) == EventKind::Error)
}

fn no(message: &str, status: Option<u16>) -> Failure {
    let cause = "not-continued";
    Failure { cause, message: message.to_owned(), status, verdict: Verdict::Neutral, taken: false }
}
