//! A circuit breaker as a pure state machine: consecutive failures open it, time lets one trial through, the trial
//! decides. The clock is an argument.

use pointsman_policies::units::Micros;

/// Failures in a row that open it.
const FAILURES_TO_OPEN: u32 = 3;
/// How long it stays open the first time.
const FIRST_PAUSE: Micros = Micros::from_secs(1);
/// Each failed trial doubles the pause up to this.
const LONGEST_PAUSE: Micros = Micros::from_secs(30);
/// A trial that never reports back (its task was dropped) stops blocking others after this.
const TRIAL_LIMIT: Micros = Micros::from_secs(60);

/// What a breaker says about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Requests pass.
    Closed,
    /// Nothing passes for this long.
    Open {
        /// Time until the next trial.
        retry_in: Micros,
    },
    /// The next request is the trial.
    Trial,
}

/// The state machine. Only failures of the endpoint count: a caller's mistake and back-pressure are neutral.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    failures: u32,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    since: Micros,
    until: Micros,
    pause: Micros,
    trial_since: Option<Micros>,
}

impl Breaker {
    /// Where it stands.
    pub fn position(&self, now: Micros) -> Position {
        match self.open {
            None => Position::Closed,
            Some(open) if now < open.until => Position::Open { retry_in: open.until - now },
            Some(Open { trial_since: Some(since), .. }) if now < since + TRIAL_LIMIT => {
                Position::Open { retry_in: since + TRIAL_LIMIT - now }
            }
            Some(_) => Position::Trial,
        }
    }

    /// How long it has been open, trials included.
    pub fn ejected_for(&self, now: Micros) -> Micros {
        self.open.map_or(Micros(0), |open| now - open.since)
    }

    /// A request is being sent; in the trial position it becomes the trial.
    pub fn on_attempt(&mut self, now: Micros) {
        if self.position(now) == Position::Trial
            && let Some(open) = &mut self.open
        {
            open.trial_since = Some(now);
        }
    }

    /// An answer has begun: a trial has succeeded. Only a whole answer clears earlier failures, or an endpoint that
    /// breaks every stream half-way would never be left alone.
    pub fn on_first_byte(&mut self) {
        if self.open.take().is_some() {
            self.failures = FAILURES_TO_OPEN - 1;
        }
    }

    /// A whole answer came: the endpoint works.
    pub fn on_success(&mut self) {
        *self = Breaker::default();
    }

    /// An answer came that says nothing about the endpoint's health (4xx, back-pressure, the caller left).
    pub fn on_neutral(&mut self) {
        if let Some(open) = &mut self.open {
            open.trial_since = None;
        }
    }

    /// The endpoint failed.
    pub fn on_failure(&mut self, now: Micros) {
        self.failures = self.failures.saturating_add(1);
        let pause = match self.open {
            Some(open) if now < open.until => return,
            Some(open) => Micros((open.pause.0 * 2).min(LONGEST_PAUSE.0)),
            None if self.failures < FAILURES_TO_OPEN => return,
            None => FIRST_PAUSE,
        };
        let since = self.open.map_or(now, |open| open.since);
        self.open = Some(Open { since, until: now + pause, pause, trial_since: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Micros {
        Micros(ms * 1_000)
    }

    fn failed(times: u32, now: Micros) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..times {
            breaker.on_failure(now);
        }
        breaker
    }

    #[test]
    fn opens_after_three_failures_in_a_row_and_not_before() {
        assert_eq!(failed(2, at(0)).position(at(0)), Position::Closed);
        assert_eq!(failed(3, at(0)).position(at(0)), Position::Open { retry_in: at(1_000) });
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let mut breaker = failed(2, at(0));
        breaker.on_success();
        breaker.on_failure(at(1));
        assert_eq!(breaker.position(at(1)), Position::Closed);
    }

    #[test]
    fn lets_one_trial_through_and_closes_when_it_succeeds() {
        let mut breaker = failed(3, at(0));
        assert_eq!(breaker.position(at(1_000)), Position::Trial);
        breaker.on_attempt(at(1_000));
        assert!(matches!(breaker.position(at(1_001)), Position::Open { .. }), "a second request must wait");
        breaker.on_success();
        assert_eq!(breaker.position(at(1_002)), Position::Closed);
    }

    #[test]
    fn it_knows_how_long_it_has_been_open_trials_included() {
        let mut breaker = failed(3, at(500));
        assert_eq!((breaker.ejected_for(at(500)), breaker.ejected_for(at(900))), (at(0), at(400)));
        breaker.on_attempt(at(1_500));
        breaker.on_failure(at(1_600));
        assert_eq!(breaker.ejected_for(at(3_000)), at(2_500));
        breaker.on_first_byte();
        assert_eq!(breaker.ejected_for(at(3_100)), at(0));
    }

    #[test]
    fn a_failed_trial_doubles_the_pause_up_to_the_longest() {
        let mut breaker = failed(3, at(0));
        let mut now = at(1_000);
        for pause_s in [2, 4, 8, 16, 30, 30] {
            breaker.on_attempt(now);
            breaker.on_failure(now);
            assert_eq!(breaker.position(now), Position::Open { retry_in: Micros::from_secs(pause_s) });
            now += Micros::from_secs(pause_s);
        }
    }

    #[test]
    fn an_answer_that_breaks_after_it_began_still_counts() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            breaker.on_first_byte();
            breaker.on_failure(at(0));
        }
        assert_eq!(breaker.position(at(0)), Position::Open { retry_in: at(1_000) });
        breaker.on_attempt(at(1_000));
        breaker.on_first_byte();
        assert_eq!(breaker.position(at(1_000)), Position::Closed);
        breaker.on_failure(at(1_001));
        assert!(matches!(breaker.position(at(1_001)), Position::Open { .. }), "one more broken answer is enough");
    }

    #[test]
    fn a_neutral_answer_frees_the_trial_for_the_next_request() {
        let mut breaker = failed(3, at(0));
        breaker.on_attempt(at(1_000));
        breaker.on_neutral();
        assert_eq!(breaker.position(at(1_000)), Position::Trial);
    }
}
