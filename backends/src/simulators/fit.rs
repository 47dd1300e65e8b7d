//! The service model fitted to measured machines: which numbers describe them best, and how far they are off.
//!
//! ```text
//! token_ms  = step(batch, batch * (prompt + output / 2))
//! prompt_ms = fixed + batch * prompt / prefill rate + step(batch, batch * prompt)
//! ```
//!
//! Least squares of relative errors, with no number below zero. `cargo run -p pointsman-backends --example fit` prints
//! the fits to the measurements beside this file.

use std::fmt;

/// Service times of Llama-2-70B and BLOOM-176B on A100 and H100: medians of the repetitions in `perf_model.csv` of
/// Mutinifni/splitwise-sim (MIT; the licence lies beside the file), without the power-capped machines.
pub const SPLITWISE: &str = include_str!("fit/splitwise.csv");

/// Rounds of coordinate descent; the last thousands change nothing.
const ROUNDS: usize = 20_000;
/// A batch whose whole time is this many times its parts was not served at once: its memory did not suffice.
const NOT_AT_ONCE: f64 = 2.0;

/// One measurement: a batch of equal requests that arrive together.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What serves: model, hardware, how many of it.
    pub machine: Machine,
    /// Prompt tokens of each request.
    pub prompt_tokens: f64,
    /// Requests.
    pub batch: f64,
    /// Output tokens of each request.
    pub output_tokens: f64,
    /// Time to the first tokens, milliseconds.
    pub prompt_ms: f64,
    /// Time per token after the first, milliseconds.
    pub token_ms: f64,
    /// Time to the end, milliseconds.
    pub total_ms: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Model.
    pub model: String,
    /// Hardware.
    pub hardware: String,
    /// How many of it serve the model together.
    pub gpus: u32,
}

impl Measured {
    /// Lines of a file like [`SPLITWISE`]; what does not parse is left out.
    pub fn parse(text: &str) -> Vec<Measured> {
        text.lines().skip(1).filter_map(Measured::line).collect()
    }

    fn line(line: &str) -> Option<Measured> {
        let mut cells = line.split(',');
        let (model, hardware) = (cells.next()?.to_owned(), cells.next()?.to_owned());
        let machine = Machine { model, hardware, gpus: cells.next()?.parse().ok()? };
        let mut number = || cells.next()?.parse().ok();
        let (prompt_tokens, batch, output_tokens) = (number()?, number()?, number()?);
        let (prompt_ms, token_ms, total_ms) = (number()?, number()?, number()?);
        Some(Measured { machine, prompt_tokens, batch, output_tokens, prompt_ms, token_ms, total_ms })
    }

    fn served_at_once(&self) -> bool {
        self.total_ms <= NOT_AT_ONCE * (self.prompt_ms + self.output_tokens * self.token_ms)
    }

    /// Tokens in memory halfway through the answers.
    fn kv_tokens(&self) -> f64 {
        self.batch * (self.prompt_tokens + self.output_tokens / 2.0)
    }
}

/// The numbers that describe a machine best, and how well they do.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// What was measured.
    pub machine: Machine,
    /// Measurements it rests on.
    pub used: usize,
    /// Measurements left out: batches that were not served at once.
    pub left_out: usize,
    /// One decode step with an empty batch, milliseconds.
    pub step_base_ms: f64,
    /// What each sequence adds to a step, milliseconds.
    pub step_per_sequence_ms: f64,
    /// What each token in KV memory adds to a step, nanoseconds.
    pub step_per_kv_token_ns: f64,
    /// Prefill rate, tokens per second.
    pub prefill_tokens_per_s: f64,
    /// Time to first token of an empty prompt beyond one step, milliseconds.
    pub fixed_ttft_ms: f64,
    /// How far times to first token are off.
    pub prompt: RelativeError,
    /// How far times between tokens are off.
    pub token: RelativeError,
}

/// Errors as parts of what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelativeError {
    /// Half are below.
    pub median: f64,
    /// Nine of ten are below.
    pub p90: f64,
}

impl Fit {
    /// Names the columns of a displayed fit.
    pub const HEADING: &'static str = "\
model        machine         step ms  +ms/seq  +ns/KV  prefill  fixed   error of TTFT  error of ITL   measurements
                                                       tok/s     ms     median / p90   median / p90";

    /// Fits each machine, in the order in which they appear.
    pub fn each(measured: &[Measured]) -> Vec<Fit> {
        let mut machines: Vec<&Machine> = Vec::new();
        for row in measured {
            if !machines.contains(&&row.machine) {
                machines.push(&row.machine);
            }
        }
        machines.into_iter().map(|machine| Fit::of(machine, measured)).collect()
    }

    fn of(machine: &Machine, measured: &[Measured]) -> Fit {
        let (rows, left_out): (Vec<&Measured>, Vec<&Measured>) =
            measured.iter().filter(|row| row.machine == *machine).partition(|row| row.served_at_once());
        let token: Vec<f64> = rows.iter().map(|row| row.token_ms).collect();
        let step = |kv: fn(&Measured) -> f64| rows.iter().map(move |row| [1.0, row.batch, kv(row)]);
        let steps = least_squares(&step(Measured::kv_tokens).collect::<Vec<_>>(), &token, &token);
        let [step_base_ms, step_per_sequence_ms, per_kv_ms] = steps;
        let first_steps: Vec<f64> = step(|row| row.batch * row.prompt_tokens).map(|row| dot(&row, &steps)).collect();
        let prompt: Vec<f64> = rows.iter().map(|row| row.prompt_ms).collect();
        let beyond: Vec<f64> = prompt.iter().zip(&first_steps).map(|(ms, step)| ms - step).collect();
        let prefill: Vec<[f64; 2]> = rows.iter().map(|row| [1.0, row.batch * row.prompt_tokens]).collect();
        let prefills = least_squares(&prefill, &beyond, &prompt);
        let [fixed_ttft_ms, per_prompt_ms] = prefills;
        let fitted_token = step(Measured::kv_tokens).map(|row| dot(&row, &steps));
        let fitted_prompt = prefill.iter().zip(&first_steps).map(|(row, step)| dot(row, &prefills) + step);
        Fit {
            machine: machine.clone(),
            used: rows.len(),
            left_out: left_out.len(),
            step_base_ms,
            step_per_sequence_ms,
            step_per_kv_token_ns: per_kv_ms * 1e6,
            prefill_tokens_per_s: 1e3 / per_prompt_ms,
            fixed_ttft_ms,
            prompt: RelativeError::of(fitted_prompt, &prompt),
            token: RelativeError::of(fitted_token, &token),
        }
    }

    /// The length of a step, milliseconds.
    pub fn step_ms(&self, batch: f64, kv_tokens: f64) -> f64 {
        self.step_base_ms + self.step_per_sequence_ms * batch + self.step_per_kv_token_ns * kv_tokens / 1e6
    }
}

impl RelativeError {
    fn of(fitted: impl Iterator<Item = f64>, measured: &[f64]) -> RelativeError {
        let mut errors: Vec<f64> = fitted.zip(measured).map(|(fitted, ms)| (fitted / ms - 1.0).abs()).collect();
        errors.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let position = (errors.len().saturating_sub(1) as f64 * share).round() as usize;
            errors.get(position).copied().unwrap_or(f64::NAN)
        };
        RelativeError { median: at(0.5), p90: at(0.9) }
    }
}

impl fmt::Display for RelativeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:4.1} / {:4.1} %", self.median * 100.0, self.p90 * 100.0)
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { model, hardware, gpus } = &self.machine;
        write!(out, "{model:<10} {gpus} x {hardware:<9}  ")?;
        write!(
            out,
            "{:5.1}  {:7.3}  {:7.0}  ",
            self.step_base_ms, self.step_per_sequence_ms, self.step_per_kv_token_ns
        )?;
        write!(out, "{:6.0}  {:6.1}  ", self.prefill_tokens_per_s, self.fixed_ttft_ms)?;
        write!(out, "{}  {}  {:2} ({} left out)", self.prompt, self.token, self.used, self.left_out)
    }
}

/// The numbers not below zero that make the errors, as parts of `scale`, least. By coordinate descent: one number after
/// the other takes its best value beside the others.
fn least_squares<const N: usize>(rows: &[[f64; N]], target: &[f64], scale: &[f64]) -> [f64; N] {
    let weighted: Vec<[f64; N]> = rows.iter().zip(scale).map(|(row, scale)| row.map(|cell| cell / scale)).collect();
    let mut rests: Vec<f64> = target.iter().zip(scale).map(|(target, scale)| target / scale).collect();
    let mut numbers = [0.0; N];
    for _ in 0..ROUNDS {
        for (column, number) in numbers.iter_mut().enumerate() {
            let cells = || weighted.iter().map(|row| row.get(column).copied().unwrap_or(0.0));
            let (mut along, mut square) = (0.0, 0.0);
            for (cell, rest) in cells().zip(&rests) {
                along += cell * rest;
                square += cell * cell;
            }
            let better = (*number + along / square.max(f64::MIN_POSITIVE)).max(0.0);
            let by = better - std::mem::replace(number, better);
            for (cell, rest) in cells().zip(&mut rests) {
                *rest -= cell * by;
            }
        }
    }
    numbers
}

fn dot<const N: usize>(row: &[f64; N], numbers: &[f64; N]) -> f64 {
    row.iter().zip(numbers).map(|(cell, number)| cell * number).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware;

    fn fits() -> Vec<Fit> {
        Fit::each(&Measured::parse(SPLITWISE))
    }

    #[test]
    fn steps_fit_closely_and_prompts_as_well_as_a_straight_line_can() {
        let fits = fits();
        assert_eq!(fits.len(), 8);
        for fit in &fits {
            println!("{fit}");
            assert!(fit.used >= 18 && fit.left_out <= 1, "{fit}");
            assert!(fit.token.median < 0.05 && fit.token.p90 < 0.06, "{fit}");
            // Large prompts are computed up to a third slower than small ones; one rate cannot say so.
            assert!(fit.prompt.median < 0.20 && fit.prompt.p90 < 0.40, "{fit}");
        }
    }

    #[test]
    fn numbers_that_made_the_measurements_are_found_again() {
        let machine = Machine { model: "m".into(), hardware: "h".into(), gpus: 1 };
        let row = |prompt_tokens: f64, batch: f64, output_tokens: f64| {
            let step_ms = |kv: f64| 20.0 + 0.5 * batch + 100.0 * kv / 1e6;
            let token_ms = step_ms(batch * (prompt_tokens + output_tokens / 2.0));
            let prompt_ms = 30.0 + batch * prompt_tokens / 5.0 + step_ms(batch * prompt_tokens);
            let total_ms = prompt_ms + output_tokens * token_ms;
            Measured { machine: machine.clone(), prompt_tokens, batch, output_tokens, prompt_ms, token_ms, total_ms }
        };
        let mut rows: Vec<Measured> = [1.0, 4.0, 16.0, 64.0].map(|batch| row(512.0, batch, 128.0)).into();
        rows.extend([128.0, 4096.0, 8192.0].map(|prompt| row(prompt, 1.0, 128.0)));
        rows.push(Measured { prompt_ms: 1.0, ..row(512.0, 64.0, 128.0) });
        if let Some(last) = rows.last_mut() {
            last.total_ms *= 3.0;
        }
        let fit = Fit::each(&rows).remove(0);
        assert_eq!((fit.used, fit.left_out), (7, 1));
        let close = |number: f64, expected: f64| (number / expected - 1.0).abs() < 0.01;
        assert!(close(fit.step_base_ms, 20.0) && close(fit.step_per_sequence_ms, 0.5), "{fit}");
        assert!(close(fit.step_per_kv_token_ns, 100.0) && close(fit.prefill_tokens_per_s, 5000.0), "{fit}");
        assert!(close(fit.fixed_ttft_ms, 30.0) && fit.prompt.p90 < 0.01, "{fit}");
    }

    #[test]
    fn the_catalogs_a100_is_to_its_h100_as_the_measured_ones_are() {
        let fits = fits();
        let pairs: Vec<(&Fit, &Fit)> = [2, 4, 8]
            .iter()
            .map(|gpus| {
                let of = |hardware: &str| {
                    fits.iter()
                        .find(|fit| {
                            let Machine { model, hardware: found, gpus: count } = &fit.machine;
                            model == "llama2-70b" && found == hardware && count == gpus
                        })
                        .expect("measured")
                };
                (of("a100-80gb"), of("h100-80gb"))
            })
            .collect();
        let mean = |ratio: fn(&Fit, &Fit) -> f64| {
            (pairs.iter().map(|(a100, h100)| ratio(a100, h100).ln()).sum::<f64>() / 3.0).exp()
        };
        let step = mean(|a100, h100| a100.step_ms(20.0, 20_000.0) / h100.step_ms(20.0, 20_000.0));
        let prefill = mean(|a100, h100| h100.prefill_tokens_per_s / a100.prefill_tokens_per_s);
        let [a100, h100] = ["a100", "h100"].map(|name| hardware::find(name).expect("shipped").service_model());
        let close = |number: f64, expected: f64| (number / expected - 1.0).abs() < 0.03;
        assert!(close(a100.step_base_ms / h100.step_base_ms, step), "{step}");
        assert!(close(a100.step_per_sequence_ms / h100.step_per_sequence_ms, step), "{step}");
        assert!(close(a100.step_per_kv_token_ns / h100.step_per_kv_token_ns, step), "{step}");
        assert!(close(h100.prefill_tokens_per_s / a100.prefill_tokens_per_s, prefill), "{prefill}");
    }
}
