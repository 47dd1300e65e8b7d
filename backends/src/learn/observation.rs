//! What one answered request tells: when, under which load, against which prediction.

use pointsman_policies::fleet::EndpointState;
use pointsman_policies::policy::Slo;
use pointsman_policies::units::Micros;

use super::meter::Exposure;

/// One request that was answered to its end. Endpoint and class are indices of what the learner has
/// [adopted](super::Learner::adopt).
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// The endpoint that answered.
    pub endpoint: usize,
    /// The class.
    pub class: usize,
    /// Whether it was streamed; of others nothing is known but when they were whole.
    pub streamed: bool,
    /// How long it had waited before it was sent, milliseconds.
    pub waited_ms: f64,
    /// When it was sent.
    pub dispatched: Micros,
    /// When its first byte came.
    pub first_byte: Micros,
    /// When its last token came.
    pub last_byte: Micros,
    /// Prompt, tokens, as the machine counted them.
    pub input_tokens: u64,
    /// Of these, tokens that the machine had in its prefix cache, as far as is known.
    pub cached_tokens: u64,
    /// Answer, tokens, as the machine counted them.
    pub output_tokens: u64,
    /// What its endpoint was doing when it was sent, without this request.
    pub at_dispatch: Load,
    /// What its endpoint did between the first and the last byte, with this request; `None` where nobody kept account.
    pub during: Option<Exposure>,
    /// What was predicted when it was sent.
    pub predicted: Predicted,
    /// What it was promised.
    pub slo: Slo,
}

/// The load of an endpoint at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests sent and not yet finished.
    pub in_flight: u32,
    /// Prompt tokens whose first token has not come.
    pub prefill_tokens: u64,
    /// Prompt and expected answer tokens of everything in flight.
    pub context_tokens: u64,
}

impl From<&EndpointState> for Load {
    fn from(state: &EndpointState) -> Load {
        Load { in_flight: state.in_flight, prefill_tokens: state.prefill_tokens, context_tokens: state.context_tokens }
    }
}

/// A prediction as it was made, and the factors for hidden load in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    /// Time to first token, milliseconds.
    pub ttft_ms: f64,
    /// Time per output token, milliseconds.
    pub itl_ms: f64,
    /// The same as it was planned with, its scatter included, milliseconds.
    pub itl_planned_ms: f64,
    /// Time to the whole answer, milliseconds.
    pub total_ms: f64,
    /// The factors that were in force.
    pub factors: Factors,
}

/// By how much load that nobody sees slows an endpoint; 1 where it does not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// The time to first token.
    pub ttft: f64,
    /// The time per output token.
    pub itl: f64,
}

impl Factors {
    /// No hidden load.
    pub const NEUTRAL: Factors = Factors { ttft: 1.0, itl: 1.0 };
}

impl Observation {
    /// Time to first token, milliseconds; of streams.
    pub fn ttft_ms(&self) -> Option<f64> {
        self.streamed.then(|| (self.first_byte - self.dispatched).as_ms())
    }

    /// Time per output token after the first, milliseconds; of streams with more than one token.
    pub fn itl_ms(&self) -> Option<f64> {
        let later = self.later_tokens();
        (self.streamed && later > 0.0).then(|| (self.last_byte - self.first_byte).as_ms() / later)
    }

    /// Time to the whole answer, milliseconds.
    pub fn total_ms(&self) -> f64 {
        (self.last_byte - self.dispatched).as_ms()
    }

    /// Tokens after the first.
    pub(super) fn later_tokens(&self) -> f64 {
        self.output_tokens.saturating_sub(1) as f64
    }

    /// Prompt tokens that had to be computed.
    pub(super) fn uncached_tokens(&self) -> u64 {
        self.input_tokens.saturating_sub(self.cached_tokens)
    }
}
