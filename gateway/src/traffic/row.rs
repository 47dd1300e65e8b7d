//! One request in 96 bytes: what lists, filters, rollups and contrasts are made of.

use pointsman_policies::attain::Part;
use pointsman_policies::facts::Api;
use pointsman_policies::fleet::HardwareKind;
use pointsman_policies::trial::Arm;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::detail::Because;
use super::names::{COLUMNS, Column, Names};
use crate::explained::unix_ms;
use crate::record::{Outcome, Record, Waited};

/// Outcomes by the number that rows keep.
pub const OUTCOMES: [&str; 6] = ["answered", "refused", "callers-mistake", "client-left", "client-slow", "broken"];
/// APIs by the number that rows keep.
pub const APIS: [&str; 4] = ["other", "chat", "completions", "embeddings"];
/// Kinds of hardware by the number that rows keep.
pub const KINDS: [&str; 6] = ["", "gpu", "wafer", "lpu", "cpu", "cloud"];
/// Parts of a promise by the bit that rows keep.
pub const PARTS: [Part; 3] = [Part::Ttft, Part::Itl, Part::Deadline];

/// Whether a promise was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Slo {
    /// As a whole.
    Kept,
    /// In some part.
    Missed,
    /// Nothing was promised, or the client's own doing left nothing to judge.
    None,
}

/// What a request may have been, besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mark {
    /// It asked for a stream.
    Stream = 1,
    /// An attempt was made beside a slow one.
    Hedged = 2,
    /// Its stream went on on another machine.
    Continued = 4,
    /// It was held before its first attempt.
    Held = 8,
    /// The candidate on trial decided it.
    Canary = 16,
    /// Its caller asked for the trace to be kept.
    Asked = 32,
    /// A shadow policy would have done something else.
    Disagreed = 64,
}

/// One request. Times that are not known are NaN, which no comparison holds of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Its trace.
    pub trace_id: u128,
    /// When it came, milliseconds since 1970.
    pub unix_ms: u64,
    /// What its request id comes to.
    pub id_hash: u64,
    /// Price, US dollars.
    pub usd: f32,
    /// Energy, joules, modelled.
    pub joules: f32,
    /// How long it was held, milliseconds; 0 where it was not.
    pub queue_ms: f32,
    /// Time to first token, milliseconds.
    pub ttft_ms: f32,
    /// Time per output token, milliseconds.
    pub itl_ms: f32,
    /// Time to the end, milliseconds.
    pub total_ms: f32,
    /// Prompt tokens, the machine's count where it told one.
    pub input_tokens: u32,
    /// Of them those it had in its cache.
    pub cached_tokens: u32,
    /// Answer tokens.
    pub output_tokens: u32,
    /// The generation that decided, 0 where nothing did.
    pub generation: u32,
    /// Names by column.
    pub names: [u16; COLUMNS],
    /// HTTP status of the answer.
    pub status: u16,
    /// Attempts made.
    pub attempts: u8,
    /// [`OUTCOMES`]
    pub outcome: u8,
    /// [`KINDS`], of the last attempt's machine.
    pub kind: u8,
    /// [`APIS`]
    pub api: u8,
    /// [`Mark`]s.
    pub marks: u8,
    /// Whether its promise was kept, in the lower bits, and the parts that were missed above.
    pub slo: u8,
}

impl Row {
    /// The row of a record that is closed.
    pub fn of(record: &Record, names: &mut Names) -> Row {
        let usage = record.usage.unwrap_or_default();
        let tokens = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let decision = record.decision.as_deref();
        let real = |ms: Option<f64>| ms.map_or(f32::NAN, |ms| ms as f32);
        Row {
            trace_id: record.trace.trace_id,
            unix_ms: unix_ms(record),
            id_hash: xxh3_64(record.request_id.as_bytes()),
            usd: record.usd as f32,
            joules: real(record.joules),
            queue_ms: record.waited.as_ref().map_or(0.0, Waited::ms) as f32,
            ttft_ms: real(record.ttft_ms()),
            itl_ms: real(record.itl_ms()),
            total_ms: (record.ended_at.as_secs_f64() * 1e3) as f32,
            input_tokens: tokens(if record.usage.is_some() { usage.input_tokens } else { record.input_tokens }),
            cached_tokens: tokens(usage.cached_tokens.unwrap_or(0)),
            output_tokens: tokens(usage.output_tokens),
            generation: decision.map_or(0, |made| u32::try_from(made.snapshot.generation).unwrap_or(u32::MAX)),
            names: named(record, names),
            status: record.status,
            attempts: u8::try_from(record.attempts.len()).unwrap_or(u8::MAX),
            outcome: place(&OUTCOMES, record.outcome.as_str()),
            kind: kind(record).map_or(0, |kind| place(&KINDS, kind.as_str())),
            api: record.api.map_or(0, |api: Api| place(&APIS, api.as_str())),
            marks: marks(record),
            slo: slo(record),
        }
    }

    /// A name's number.
    pub fn name(&self, column: Column) -> u16 {
        self.names.get(column as usize).copied().unwrap_or_default()
    }

    /// Whether it was so.
    pub fn is(&self, mark: Mark) -> bool {
        self.marks & mark as u8 != 0
    }

    /// Whether its promise was kept.
    pub fn slo(&self) -> Slo {
        match self.slo & 3 {
            0 => Slo::Kept,
            1 => Slo::Missed,
            _ => Slo::None,
        }
    }

    /// The parts of its promise that were missed.
    pub fn missed(&self) -> impl Iterator<Item = Part> {
        let bits = self.missed_bits();
        PARTS.into_iter().enumerate().filter(move |(bit, _)| bits & (1 << bit) != 0).map(|(_, part)| part)
    }

    /// Of [`PARTS`], as bits, those that were missed; none where nothing is judged.
    pub fn missed_bits(&self) -> u8 {
        if self.slo() == Slo::Missed { self.slo >> 2 } else { 0 }
    }

    /// Whether the gateway or a machine failed it.
    pub fn is_error(&self) -> bool {
        self.status >= 500 || self.word(&OUTCOMES, self.outcome) == "broken"
    }

    /// A word of a list by the number that the row keeps.
    pub fn word(&self, words: &[&'static str], number: u8) -> &'static str {
        words.get(usize::from(number)).copied().unwrap_or_default()
    }
}

fn place(words: &[&str], word: &str) -> u8 {
    words.iter().position(|other| *other == word).and_then(|place| u8::try_from(place).ok()).unwrap_or(0)
}

fn named(record: &Record, names: &mut Names) -> [u16; COLUMNS] {
    let decision = record.decision.as_deref();
    let deciding = decision.map(|made| made.deciding());
    let route = decision.zip(deciding).and_then(|(made, deciding)| deciding.policy.routes.get(made.route));
    let last = record.attempts.last();
    let caller = record.caller.as_ref().map_or("", |caller| &*caller.name);
    let failed = record.attempts.iter().rev().find(|attempt| attempt.failure.is_some());
    let code = match record.outcome {
        Outcome::Refused(code) => code,
        _ => failed.map_or("", |attempt| attempt.cause),
    };
    Column::ALL.map(|column| {
        let name = match column {
            Column::Class => record.class.as_deref().unwrap_or_default(),
            Column::Route => route.map_or("", |route| route.name.as_str()),
            Column::Policy => deciding.map_or("", |deciding| deciding.policy.name.as_str()),
            Column::Pool => last.map_or("", |attempt| &attempt.pool),
            Column::Endpoint => last.map_or("", |attempt| attempt.endpoint.as_str()),
            Column::Model => &record.model,
            Column::Tenant => {
                decision.map(|made| made.facts.tenant.as_str()).filter(|name| !name.is_empty()).unwrap_or(caller)
            }
            Column::Code => code,
        };
        names.number(column, name)
    })
}

/// Of the hardware that answered, else of what was tried last.
fn kind(record: &Record) -> Option<HardwareKind> {
    let tried = || {
        let (made, last) = (record.decision.as_deref()?, record.attempts.last()?);
        Some(made.snapshot.target(last.index)?.facts.kind)
    };
    record.hardware.or_else(tried)
}

fn marks(record: &Record) -> u8 {
    let candidate = record.decision.as_ref().is_some_and(|made| made.arm == Arm::Candidate);
    let asked = record.trace.parent_id.is_some() && record.trace.sampled;
    let marks = [
        (Mark::Stream, record.stream),
        (Mark::Hedged, record.attempts.iter().any(|attempt| attempt.hedge)),
        (Mark::Continued, record.was_continued()),
        (Mark::Held, record.waited.is_some()),
        (Mark::Canary, candidate),
        (Mark::Asked, asked),
    ];
    marks.into_iter().filter(|(_, is)| *is).fold(0, |bits, (mark, _)| bits | mark as u8)
}

fn slo(record: &Record) -> u8 {
    let promised = record.slo.ttft_ms.or(record.slo.itl_ms).or(record.slo.deadline_ms).is_some();
    let slo = match record.attained() {
        Some(true) if promised => Slo::Kept,
        Some(false) if promised => Slo::Missed,
        _ => Slo::None,
    };
    let missed = record.slo_results();
    let bit = |part: Part| missed.contains(&(part, false));
    let bits = PARTS.into_iter().enumerate().filter(|(_, part)| bit(*part)).fold(0, |bits, (at, _)| bits | 1 << at);
    slo as u8 | bits << 2
}

/// A row as the admin API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct RowView {
    /// Counts the requests of this process.
    pub seq: u64,
    trace_id: String,
    unix_ms: u64,
    class: String,
    route: String,
    policy: String,
    generation: u32,
    canary: bool,
    model: String,
    tenant: String,
    api: &'static str,
    stream: bool,
    pool: String,
    endpoint: String,
    hardware: &'static str,
    outcome: &'static str,
    code: Option<String>,
    status: u16,
    attempts: u8,
    hedged: bool,
    continued: bool,
    held: bool,
    disagreed: bool,
    queue_ms: Option<f32>,
    ttft_ms: Option<f32>,
    itl_ms: Option<f32>,
    total_ms: f32,
    input_tokens: u32,
    cached_tokens: u32,
    output_tokens: u32,
    usd: f32,
    joules: Option<f32>,
    slo: Slo,
    slo_missed: Vec<&'static str>,
    detail: Option<Because>,
}

impl RowView {
    /// With the names, and why its detail is kept.
    pub fn of(seq: u64, row: &Row, names: &Names, detail: Option<Because>) -> RowView {
        let name = |column| names.name(column, row.name(column)).to_owned();
        let known = |figure: f32| figure.is_finite().then_some(figure);
        RowView {
            seq,
            trace_id: format!("{:032x}", row.trace_id),
            unix_ms: row.unix_ms,
            class: name(Column::Class),
            route: name(Column::Route),
            policy: name(Column::Policy),
            generation: row.generation,
            canary: row.is(Mark::Canary),
            model: name(Column::Model),
            tenant: name(Column::Tenant),
            api: row.word(&APIS, row.api),
            stream: row.is(Mark::Stream),
            pool: name(Column::Pool),
            endpoint: name(Column::Endpoint),
            hardware: row.word(&KINDS, row.kind),
            outcome: row.word(&OUTCOMES, row.outcome),
            code: Some(name(Column::Code)).filter(|code| !code.is_empty()),
            status: row.status,
            attempts: row.attempts,
            hedged: row.is(Mark::Hedged),
            continued: row.is(Mark::Continued),
            held: row.is(Mark::Held),
            disagreed: row.is(Mark::Disagreed),
            queue_ms: row.is(Mark::Held).then_some(row.queue_ms),
            ttft_ms: known(row.ttft_ms),
            itl_ms: known(row.itl_ms),
            total_ms: row.total_ms,
            input_tokens: row.input_tokens,
            cached_tokens: row.cached_tokens,
            output_tokens: row.output_tokens,
            usd: row.usd,
            joules: known(row.joules),
            slo: row.slo(),
            slo_missed: row.missed().map(Part::as_str).collect(),
            detail,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row with these names, for tests of what reads rows.
    pub(crate) fn row(names: &mut Names, named: &[(Column, &str)], change: impl FnOnce(&mut Row)) -> Row {
        let mut row = Row {
            trace_id: 1,
            unix_ms: 1_000,
            id_hash: 0,
            usd: 0.0,
            joules: f32::NAN,
            queue_ms: 0.0,
            ttft_ms: f32::NAN,
            itl_ms: f32::NAN,
            total_ms: 0.0,
            input_tokens: 0,
            cached_tokens: 0,
            output_tokens: 0,
            generation: 1,
            names: [0; COLUMNS],
            status: 200,
            attempts: 1,
            outcome: 0,
            kind: 1,
            api: 1,
            marks: 0,
            slo: Slo::None as u8,
        };
        for (column, name) in named {
            row.names[*column as usize] = names.number(*column, name);
        }
        change(&mut row);
        row
    }

    #[test]
    fn a_row_is_as_small_as_it_is_said_to_be() {
        assert_eq!(size_of::<Row>(), 96);
    }

    #[test]
    fn every_word_has_a_number() {
        assert!(Api::ALL.iter().all(|api| APIS.contains(&api.as_str())));
        assert!(HardwareKind::ALL.iter().all(|kind| KINDS.contains(&kind.as_str())));
        let ends = [
            Outcome::Answered,
            Outcome::Refused("x"),
            Outcome::CallersMistake(400),
            Outcome::ClientLeft,
            Outcome::ClientSlow,
            Outcome::Broken(String::new()),
        ];
        assert_eq!(ends.map(|end| end.as_str()), OUTCOMES);
    }
}
