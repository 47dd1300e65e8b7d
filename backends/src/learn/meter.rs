//! What an endpoint carried between two moments: mean batch, mean memory, prompts read. Constant time per event.

use pointsman_policies::units::Micros;

/// Running totals of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    mark: Mark,
    in_flight: u32,
    context_tokens: u64,
}

/// Totals at a moment; the difference of two is an [`Exposure`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    at: Micros,
    request_seconds: f64,
    context_token_seconds: f64,
    prefilled_tokens: u64,
}

/// What one stream had beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Exposure {
    /// Mean number of requests in flight.
    pub batch: f64,
    /// Mean prompt and expected answer tokens in flight.
    pub context_tokens: f64,
    /// Prompt tokens of others that were read meanwhile.
    pub prefilled_tokens: u64,
}

impl Meter {
    /// The load from this moment on.
    pub fn load(&mut self, now: Micros, in_flight: u32, context_tokens: u64) {
        self.mark = self.at(now);
        self.in_flight = in_flight;
        self.context_tokens = context_tokens;
    }

    /// A prompt of this many uncached tokens has been read: its first token came.
    pub fn prefilled(&mut self, tokens: u64) {
        self.mark.prefilled_tokens = self.mark.prefilled_tokens.saturating_add(tokens);
    }

    /// The totals at this moment.
    pub fn at(&self, now: Micros) -> Mark {
        let seconds = (now - self.mark.at).as_secs();
        Mark {
            at: now.max(self.mark.at),
            request_seconds: self.mark.request_seconds + seconds * f64::from(self.in_flight),
            context_token_seconds: self.mark.context_token_seconds + seconds * self.context_tokens as f64,
            prefilled_tokens: self.mark.prefilled_tokens,
        }
    }
}

impl Mark {
    /// What was between this mark and a later one; `None` where no time has passed.
    pub fn until(&self, later: &Mark) -> Option<Exposure> {
        let seconds = (later.at - self.at).as_secs();
        (seconds > 0.0).then(|| Exposure {
            batch: (later.request_seconds - self.request_seconds).max(0.0) / seconds,
            context_tokens: (later.context_token_seconds - self.context_token_seconds).max(0.0) / seconds,
            prefilled_tokens: later.prefilled_tokens.saturating_sub(self.prefilled_tokens),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_over_time_not_over_events() {
        let mut meter = Meter::default();
        meter.load(Micros::from_secs(1), 1, 100);
        let begin = meter.at(Micros::from_secs(2));
        meter.load(Micros::from_secs(5), 3, 500);
        meter.prefilled(70);
        let end = meter.at(Micros::from_secs(6));
        let expected = Exposure { batch: 1.5, context_tokens: 200.0, prefilled_tokens: 70 };
        assert_eq!(begin.until(&end), Some(expected));
        assert_eq!(end.until(&end), None);
        assert_eq!(end.until(&begin), None);
    }
}
