//! What is asked, when, by whom: rows of traces with what no public trace carries (class, tenant, stream, bound on the
//! answer), drawn by stated rules from a seed. The same seed gives the same requests at every load.

/// Rows of a trace, whatever format its file has.
pub mod trace;
/// Which class, tenant and bound a row is given.
pub mod rules;
/// A load that is described rather than recorded.
pub mod described;

use pointsman_policies::units::Micros;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

use self::rules::{Rules, Tenants};
use self::trace::Trace;

/// Lognormal sigma of what a gateway without a tokenizer reads as the length of a prompt, once it has learned how many
/// bytes a token has; assumed.
const READING_SIGMA: f64 = 0.05;

/// One request, as it is and as a gateway reads it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// When it comes, from the beginning of the run.
    pub at: Micros,
    /// Length of its prompt, tokens.
    pub input_tokens: u32,
    /// Length of its answer, tokens.
    pub output_tokens: u32,
    /// The caller's bound on the answer, tokens; 0 where it sets none.
    pub max_output_tokens: u32,
    /// What the gateway reads as the length of the prompt, tokens.
    pub read_input_tokens: u32,
    /// What multiplies every prediction made of it.
    pub prediction_error: f32,
    /// Index of the class that it is judged by, in [`Workload::classes`].
    pub class: u8,
    /// Index of the class that it declares.
    pub declared: u8,
    /// Index of who asks, in [`Workload::tenants`].
    pub tenant: u16,
    /// Which gateway it comes to.
    pub gateway: u8,
    /// Whether it wants a stream.
    pub stream: bool,
    /// Its first block in [`Workload::blocks`].
    first_block: u32,
    /// How many blocks it has.
    block_count: u32,
}

/// Requests in order of their coming.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// In order.
    pub requests: Vec<Request>,
    /// Hashes of blocks of prompts, request by request.
    pub blocks: Vec<u64>,
    /// Names of classes.
    pub classes: Vec<String>,
    /// Names of tenants.
    pub tenants: Vec<String>,
    /// From the beginning to the last request.
    pub span: Micros,
}

/// What is made of traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Multiplies the rate of arrivals.
    pub load: f64,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// Leaves out what comes before this time of the traces, seconds.
    pub from_s: f64,
    /// Leaves out what comes later than this after it, seconds of the traces.
    pub for_s: f64,
    /// Crowds arrivals, where given.
    pub bursts: Option<Bursts>,
    /// Lognormal sigma of the error of predictions.
    pub prediction_sigma: f64,
    /// What multiplies all predictions: a drift that nobody has learned yet.
    pub prediction_drift: f64,
    /// The part of requests that declare the most urgent class though they are of another.
    pub misdeclared: f64,
    /// How requests are shared among gateways.
    pub ingress: Vec<f64>,
    /// The part of the requests that come, 0 to 1, evenly: for a part of a fleet that is simulated in place of all of it.
    pub part: f64,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            load: 1.0,
            seed: 1,
            from_s: 0.0,
            for_s: f64::INFINITY,
            bursts: None,
            prediction_sigma: 0.0,
            prediction_drift: 1.0,
            misdeclared: 0.0,
            ingress: vec![1.0],
            part: 1.0,
        }
    }
}

/// Arrivals of each period's first part are pressed together, those of the rest drawn apart; their number stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// How long a period lasts, seconds.
    pub period_s: f64,
    /// The part of each period's requests that come in its burst, 0 to 1.
    pub part: f64,
    /// By how much their rate rises.
    pub factor: f64,
}

impl Workload {
    /// Requests of several traces together, each trace beginning at zero.
    pub fn build(traces: &[Trace], shape: &Shape) -> Workload {
        Workload::by(&Rules::of(traces), traces, shape)
    }

    /// The same, with classes by other rules than those that suit the traces.
    pub fn by(rules: &Rules, traces: &[Trace], shape: &Shape) -> Workload {
        let mut workload = Workload { classes: rules.class_names(), ..Workload::default() };
        let mut tenants = Tenants::default();
        for (index, trace) in traces.iter().enumerate() {
            let mut random = Pcg64Mcg::seed_from_u64(shape.seed.wrapping_mul(0x9e37_79b9).wrapping_add(index as u64));
            for (number, row) in trace.rows.iter().enumerate() {
                let drawn = rules.draw(trace, row, &mut random);
                let tenant = tenants.of(trace, row, &mut random);
                let reading: f64 = StandardNormal.sample(&mut random);
                let error: f64 = StandardNormal.sample(&mut random);
                let (lying, ingress): (f64, f64) = (random.random(), random.random());
                let Some(at) = shape.at(row.at).filter(|_| shape.takes(number)) else { continue };
                let error = (shape.prediction_sigma * error).exp() * shape.prediction_drift;
                let first_block = u32::try_from(workload.blocks.len()).unwrap_or(u32::MAX);
                let blocks = trace.blocks(row);
                workload.blocks.extend_from_slice(blocks);
                workload.requests.push(Request {
                    at,
                    input_tokens: row.input_tokens,
                    output_tokens: drawn.output_tokens,
                    max_output_tokens: drawn.max_output_tokens,
                    read_input_tokens: scaled(row.input_tokens, (READING_SIGMA * reading).exp() * error),
                    prediction_error: error as f32,
                    class: drawn.class,
                    declared: if lying < shape.misdeclared { 0 } else { drawn.class },
                    tenant,
                    gateway: shape.gateway(ingress),
                    stream: drawn.stream,
                    first_block,
                    block_count: u32::try_from(blocks.len()).unwrap_or(0),
                });
            }
        }
        workload.tenants = tenants.names();
        workload.requests.sort_by_key(|request| request.at);
        workload.span = workload.requests.last().map_or(Micros(0), |last| last.at);
        workload
    }

    /// The chain of hashes of a request's prompt.
    pub fn prefix(&self, request: &Request) -> &[u64] {
        let first = request.first_block as usize;
        self.blocks.get(first..first + request.block_count as usize).unwrap_or_default()
    }
}

/// Its multiples are spread as evenly as can be.
const GOLDEN_RATIO: f64 = 0.618_033_988_749_894_9;

impl Shape {
    /// Whether a row is in the part that comes.
    fn takes(&self, number: usize) -> bool {
        self.part >= 1.0 || (number as f64 * GOLDEN_RATIO).fract() < self.part
    }

    /// When something of the traces happens in the run; `None` outside the slice.
    fn at(&self, at: Micros) -> Option<Micros> {
        let since_s = at.as_secs() - self.from_s;
        if since_s < 0.0 || since_s > self.for_s {
            return None;
        }
        let warped_s = self.bursts.map_or(since_s, |bursts| bursts.warp(since_s));
        Some(Micros((warped_s / self.load * 1e6).round() as u64))
    }

    /// The gateway that a draw of 0 to 1 falls to.
    fn gateway(&self, draw: f64) -> u8 {
        let mut left = draw * self.ingress.iter().sum::<f64>();
        let met = self.ingress.iter().position(|share| {
            left -= share;
            left < 0.0
        });
        u8::try_from(met.unwrap_or(0)).unwrap_or(0)
    }
}

impl Bursts {
    /// Monotone: the first `part` of a period takes `part / factor` of its time.
    fn warp(&self, at_s: f64) -> f64 {
        let periods = (at_s / self.period_s).floor();
        let phase = at_s / self.period_s - periods;
        let burst = self.part / self.factor;
        let warped = if phase < self.part {
            phase / self.factor
        } else {
            burst + (phase - self.part) * (1.0 - burst) / (1.0 - self.part)
        };
        (periods + warped) * self.period_s
    }
}

/// A count of tokens times a factor; at least one.
fn scaled(tokens: u32, factor: f64) -> u32 {
    (f64::from(tokens) * factor).round().clamp(1.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests;
