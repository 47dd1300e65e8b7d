//! A record as a tree of spans: the server span holds `classify`, `route` (the decision with every candidate) and one
//! `chat MODEL` span, the logical operation, which holds one HTTP span for each attempt. Model and token attributes stand
//! on the logical span only, so that viewers count one call.

use std::borrow::Cow;
use std::time::Duration;

use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use pointsman_policies::facts::Api;

use super::names::{attribute as key, span};
use crate::record::{AttemptRecord, DecisionRecord, OUTRUN, Outcome, Record, Waited};

/// The spans of a record, root first.
pub fn spans(record: &Record) -> Vec<SpanData> {
    let mut tree = Tree { record, spans: Vec::with_capacity(4 + record.attempts.len()) };
    tree.root();
    if record.class.is_some() {
        let attributes = vec![
            text(key::CLASS, record.class.as_deref().unwrap_or_default()),
            text(key::CLASSIFIED_BY, record.because),
            text(key::OPENINFERENCE_SPAN_KIND, "CHAIN"),
        ];
        tree.step(span::CLASSIFY.into(), record.read_at, record.classified_at, attributes, Vec::new());
    }
    if let Some(decision) = &record.decision {
        tree.decision(decision);
    }
    if let Some(waited) = &record.waited {
        tree.queue(waited);
    }
    if !record.attempts.is_empty() {
        tree.operation();
    }
    tree.spans
}

struct Tree<'a> {
    record: &'a Record,
    spans: Vec<SpanData>,
}

impl Tree<'_> {
    fn root(&mut self) {
        let record = self.record;
        let results = record.slo_results();
        let missed: Vec<&str> = results.iter().filter(|(_, kept)| !kept).map(|(part, _)| part.as_str()).collect();
        let mut attributes = vec![
            text(key::HTTP_REQUEST_METHOD, record.method.as_str()),
            text(key::HTTP_ROUTE, route(record)),
            number(key::HTTP_RESPONSE_STATUS_CODE, u64::from(record.status)),
            text(key::REQUEST_ID, &record.request_id),
            text(key::OUTCOME, record.outcome.as_str()),
            number(key::ATTEMPTS, record.attempts.len() as u64),
            text(key::OPENINFERENCE_SPAN_KIND, "CHAIN"),
        ];
        if let Some(caller) = &record.caller {
            attributes.push(text(key::CALLER, &caller.name));
            attributes.push(text(key::CALLER_BY, caller.by.as_str()));
        }
        if let Some(class) = &record.class {
            attributes.push(text(key::CLASS, class));
        }
        if let Some(spent) = &record.retries_spent {
            attributes.push(text(key::RETRIES_SPENT, &spent.to_string()));
        }
        let continued = record.continued();
        attributes.extend((continued > 0).then(|| number(key::CONTINUED, continued)));
        attributes.extend(record.why_not_continued().map(|why| text(key::NOT_CONTINUED, why)));
        if !missed.is_empty() {
            attributes.push(text(key::SLO_MISSED, &missed.join(",")));
        }
        let status = match &record.outcome {
            Outcome::Broken(reason) => Status::error(reason.clone()),
            Outcome::Refused(code) if record.status >= 500 => Status::error(*code),
            _ => Status::Unset,
        };
        let name = format!("{} {}", record.method, route(record));
        let mut root = self.span(name.into(), record.trace.span_id, (Duration::ZERO, record.ended_at), attributes);
        root.span_kind = SpanKind::Server;
        root.parent_span_id = SpanId::from(record.trace.parent_id.unwrap_or(0));
        root.parent_span_is_remote = record.trace.parent_id.is_some();
        root.status = status;
        self.spans.push(root);
    }

    fn decision(&mut self, decision: &DecisionRecord) {
        let snapshot = &decision.snapshot;
        let deciding = decision.deciding();
        let route = deciding.policy.routes.get(decision.route).map_or("", |route| route.name.as_str());
        let attributes = vec![
            text(key::POLICY, deciding.version),
            text(key::CONFIG_HASH, &snapshot.hash),
            text(key::ROUTE, route),
            text(key::OPENINFERENCE_SPAN_KIND, "CHAIN"),
        ];
        let at = self.record.wall + self.record.decided_at;
        let again = decision.again(&decision.endpoints.states());
        let candidates = again.candidates.iter().filter_map(|candidate| {
            let target = snapshot.target(candidate.endpoint)?;
            let reason = match &candidate.verdict {
                Ok(scored) => scored.to_string(),
                Err(rejection) => rejection.to_string(),
            };
            let mut attributes = vec![
                text(key::ENDPOINT, target.endpoint.id.as_str()),
                text(key::HARDWARE, target.facts.kind.as_str()),
                text(key::REASON, &reason),
            ];
            let cached_tokens = candidate.verdict.map_or(0, |scored| scored.estimate.cached_tokens);
            attributes.extend((cached_tokens > 0).then(|| number(key::CACHED_TOKENS, cached_tokens)));
            attributes
                .extend(candidate.verdict.is_ok_and(|scored| scored.home).then(|| KeyValue::new(key::HOME, true)));
            Some(Event::new(span::CANDIDATE, at, attributes, 0))
        });
        let events = candidates.collect();
        let name = format!("route {}", deciding.version);
        self.step(name.into(), self.record.classified_at, self.record.decided_at, attributes, events);
    }

    fn queue(&mut self, waited: &Waited) {
        let attributes = vec![
            text(key::POOL, &waited.pool),
            number(key::QUEUE_AHEAD, waited.ahead as u64),
            number(key::QUEUE_MOVED, u64::from(waited.moved)),
            real(key::QUEUE_SLACK_MS, waited.slack_ms),
            text(key::QUEUE_END, waited.end.as_str()),
            text(key::OPENINFERENCE_SPAN_KIND, "CHAIN"),
        ];
        self.step(span::QUEUE.into(), waited.from, waited.until, attributes, Vec::new());
    }

    fn operation(&mut self) {
        let record = self.record;
        let operation = match record.api {
            Some(Api::Completions) => "text_completion",
            Some(Api::Embeddings) => "embeddings",
            _ => "chat",
        };
        let mut attributes = vec![
            text(key::GEN_AI_OPERATION_NAME, operation),
            text(key::GEN_AI_REQUEST_MODEL, &record.model),
            text(key::OPENINFERENCE_SPAN_KIND, "LLM"),
        ];
        if let Some(attempt) = record.endpoint() {
            attributes.push(text(key::ENDPOINT, attempt.endpoint.as_str()));
            attributes.push(text(key::POOL, &attempt.pool));
            attributes.push(text(key::HARDWARE, record.hardware.map_or("", |kind| kind.as_str())));
            attributes.push(text(key::GEN_AI_PROVIDER_NAME, &attempt.pool));
        }
        if let Some(usage) = record.usage {
            attributes.push(number(key::GEN_AI_USAGE_INPUT_TOKENS, usage.input_tokens));
            attributes.push(number(key::GEN_AI_USAGE_OUTPUT_TOKENS, usage.output_tokens));
            attributes.extend(usage.cached_tokens.map(|tokens| number(key::GEN_AI_USAGE_CACHED_TOKENS, tokens)));
            attributes.push(real(key::COST_USD, record.usd));
            attributes.push(KeyValue::new(key::USAGE_ESTIMATED, record.usage_estimated));
        }
        let reals = [(key::TTFT_MS, record.ttft_ms()), (key::ITL_MS, record.itl_ms()), (key::ENERGY_J, record.joules)];
        attributes.extend(reals.into_iter().filter_map(|(name, value)| value.map(|value| real(name, value))));
        let began = record.attempts.first().map_or(record.decided_at, |attempt| attempt.began);
        let id = fastrand::u64(1..);
        let mut logical =
            self.span(format!("{operation} {}", record.model).into(), id, (began, record.ended_at), attributes);
        logical.span_kind = SpanKind::Client;
        if let Some(first) = record.first_byte_at {
            logical.events.events.push(Event::new(span::FIRST_TOKEN, record.wall + first, Vec::new(), 0));
        }
        if let Outcome::Broken(reason) = &record.outcome {
            logical.status = Status::error(reason.clone());
        }
        self.spans.push(logical);
        for (index, attempt) in record.attempts.iter().enumerate() {
            self.attempt(id, index, attempt);
        }
    }

    fn attempt(&mut self, parent: u64, index: usize, attempt: &AttemptRecord) {
        let mut attributes = vec![
            text(key::HTTP_REQUEST_METHOD, "POST"),
            text(key::SERVER_ADDRESS, attempt.endpoint.as_str()),
            text(key::ENDPOINT, attempt.endpoint.as_str()),
            text(key::POOL, &attempt.pool),
            text(key::OPENINFERENCE_SPAN_KIND, "CHAIN"),
        ];
        if index > 0 {
            attributes.push(number(key::HTTP_REQUEST_RESEND_COUNT, index as u64));
        }
        if attempt.hedge {
            attributes.push(KeyValue::new(key::HEDGE, true));
        }
        if let Some(status) = attempt.status {
            attributes.push(number(key::HTTP_RESPONSE_STATUS_CODE, u64::from(status)));
        }
        let mut span = self.span("POST".into(), attempt.span_id, (attempt.began, attempt.ended), attributes);
        span.span_kind = SpanKind::Client;
        span.parent_span_id = SpanId::from(parent);
        if let Some(failure) = &attempt.failure {
            span.attributes.push(text(key::ERROR_TYPE, attempt.cause));
            if attempt.cause != OUTRUN {
                span.status = Status::error(failure.clone());
            }
        }
        self.spans.push(span);
    }

    fn step(
        &mut self,
        name: Cow<'static, str>,
        from: Duration,
        to: Duration,
        attributes: Vec<KeyValue>,
        events: Vec<Event>,
    ) {
        let mut step = self.span(name, fastrand::u64(1..), (from, to), attributes);
        step.events.events = events;
        self.spans.push(step);
    }

    /// A span below the root.
    fn span(
        &self,
        name: Cow<'static, str>,
        id: u64,
        (from, to): (Duration, Duration),
        attributes: Vec<KeyValue>,
    ) -> SpanData {
        let trace = &self.record.trace;
        let context = |span_id: u64| {
            SpanContext::new(
                TraceId::from(trace.trace_id),
                SpanId::from(span_id),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            )
        };
        SpanData {
            span_context: context(id),
            parent_span_id: SpanId::from(trace.span_id),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name,
            start_time: self.record.wall + from,
            end_time: self.record.wall + to.max(from),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("pointsman")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

/// The path as one of the few there are, so that viewers can group by it.
fn route(record: &Record) -> &str {
    match record.path.as_str() {
        path if record.api.is_some() || path == "/v1/models" => path,
        path if path.starts_with("/v1/models/") => "/v1/models/{model}",
        _ => "other",
    }
}

fn text(name: &'static str, value: &str) -> KeyValue {
    KeyValue::new(name, value.to_owned())
}

fn number(name: &'static str, value: u64) -> KeyValue {
    KeyValue::new(name, Value::I64(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn real(name: &'static str, value: f64) -> KeyValue {
    KeyValue::new(name, Value::F64(value))
}
