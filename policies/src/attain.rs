//! Whether a promise was kept: what was observed of one answer against the SLO of its class.

use crate::policy::Slo;

/// What was observed of one answer that came whole or to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    /// Whether it was streamed.
    pub streamed: bool,
    /// Time to first token, milliseconds; read of streams only.
    pub ttft_ms: Option<f64>,
    /// Time per output token after the first, milliseconds; read of streams only.
    pub itl_ms: Option<f64>,
    /// Time to the whole answer, milliseconds.
    pub total_ms: f64,
    /// Tokens of the answer.
    pub output_tokens: u64,
}

/// One part of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Time to first token.
    Ttft,
    /// Time per output token.
    Itl,
    /// Time to the whole answer.
    Deadline,
}

impl Part {
    /// The name in metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Ttft => "ttft",
            Part::Itl => "itl",
            Part::Deadline => "deadline",
        }
    }
}

/// Each part of a promise that applies and whether it was kept. Whoever waits for a whole answer sees neither first
/// token nor pace, so the two bounds together promise him the answer within `ttft + itl * (tokens - 1)`, told as
/// [`Part::Ttft`].
pub fn parts_kept(slo: &Slo, observed: &Observed) -> impl Iterator<Item = (Part, bool)> {
    let within = |figure: Option<f64>, bound: Option<f64>| figure.zip(bound).map(|(figure, bound)| figure <= bound);
    let (ttft, itl) = if observed.streamed {
        (within(observed.ttft_ms, slo.ttft_ms), within(observed.itl_ms, slo.itl_ms))
    } else {
        let pace_ms = slo.itl_ms.unwrap_or(0.0) * observed.output_tokens.saturating_sub(1) as f64;
        (within(Some(observed.total_ms), slo.ttft_ms.map(|ttft_ms| ttft_ms + pace_ms)), None)
    };
    let deadline = within(Some(observed.total_ms), slo.deadline_ms);
    [(Part::Ttft, ttft), (Part::Itl, itl), (Part::Deadline, deadline)]
        .into_iter()
        .filter_map(|(part, kept)| Some((part, kept?)))
}

/// The parts of a promise that a request without an answer has missed: all that apply.
pub fn parts_missed(slo: &Slo) -> impl Iterator<Item = Part> {
    [(Part::Ttft, slo.ttft_ms), (Part::Itl, slo.itl_ms), (Part::Deadline, slo.deadline_ms)]
        .into_iter()
        .filter_map(|(part, bound)| bound.map(|_| part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLO: Slo = Slo { ttft_ms: Some(300.0), itl_ms: Some(10.0), deadline_ms: None };

    #[track_caller]
    fn check(observed: Observed, expected: &[(Part, bool)]) {
        assert_eq!(parts_kept(&SLO, &observed).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_stream_is_held_to_first_token_and_pace_apart() {
        let streamed = Observed { streamed: true, ttft_ms: Some(200.0), itl_ms: Some(12.0), ..Observed::default() };
        check(streamed, &[(Part::Ttft, true), (Part::Itl, false)]);
        check(Observed { itl_ms: None, ..streamed }, &[(Part::Ttft, true)]);
    }

    #[test]
    fn a_whole_answer_is_held_to_both_together() {
        let whole = Observed { total_ms: 1_200.0, output_tokens: 101, ..Observed::default() };
        check(whole, &[(Part::Ttft, true)]);
        check(Observed { total_ms: 1_301.0, ..whole }, &[(Part::Ttft, false)]);
    }
}
