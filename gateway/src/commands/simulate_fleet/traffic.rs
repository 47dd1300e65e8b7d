//! The load: traces or a description, and which classes requests are of.

use std::str::FromStr;

use anyhow::{anyhow, bail};
use pointsman_policies::language::nearest;
use pointsman_policies::policy::{Class, Policy};

use super::Arguments;
use crate::commands::figures::of;
use crate::simulation::workload::described::{self, Described};
use crate::simulation::workload::rules::{ClassRule, Mix, Rules};
use crate::simulation::workload::trace::Trace;
use crate::simulation::workload::{Shape, Workload};

/// More requests do not fit into memory: each takes about 150 bytes.
const MOST_REQUESTS: f64 = 30e6;
/// Above this a described load is one burst and then silence.
const MOST_BURSTINESS: f64 = 100.0;
/// How long a described load lasts where nothing is said, hours.
const DESCRIBED_HOURS: f64 = 1.0;
/// The ninetieth percentile over the median where only the latter is given: about that of public traces.
const P90_OVER_MEDIAN: f64 = 3.0;

/// `MEDIAN,P90` in tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lengths(described::Lengths);

impl FromStr for Lengths {
    type Err = String;

    fn from_str(text: &str) -> Result<Lengths, String> {
        let help = "give the median and the ninetieth percentile, such as `1000,2700`";
        let number = |text: &str| text.trim().parse().ok().filter(|tokens: &f64| tokens.is_finite() && *tokens >= 1.0);
        let (median, p90) = text.split_once(',').map_or((text, None), |(median, p90)| (median, Some(p90)));
        let median_tokens = number(median).ok_or_else(|| format!("`{median}` is no number of tokens; {help}"))?;
        let p90_tokens = match p90 {
            Some(p90) => number(p90).ok_or_else(|| format!("`{p90}` is no number of tokens; {help}"))?,
            None => median_tokens * P90_OVER_MEDIAN,
        };
        if p90_tokens < median_tokens {
            return Err(format!("the ninetieth percentile {p90_tokens} is below the median {median_tokens}; {help}"));
        }
        Ok(Lengths(described::Lengths { median_tokens, p90_tokens }))
    }
}

/// `CLASS=PART`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Share {
    class: String,
    part: f64,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let help = "write `CLASS=PART`, such as `realtime=0.25`";
        let (class, part) = text.split_once('=').ok_or(help)?;
        let number = part.trim().parse().ok().filter(|part: &f64| part.is_finite() && *part >= 0.0);
        let part = number.ok_or_else(|| format!("`{part}` is not a part of the requests; {help}"))?;
        Ok(Share { class: class.trim().to_owned(), part })
    }
}

/// What is asked of the fleet.
#[derive(Debug)]
pub(super) struct Traffic {
    traces: Vec<Trace>,
    rules: Rules,
    part: f64,
    seed: u64,
    all: Slice,
    /// In words.
    pub(super) words: String,
}

/// From when to when of the traces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slice {
    /// Seconds.
    pub(super) from_s: f64,
    /// Seconds.
    pub(super) for_s: f64,
    /// Whether it is less than all that was asked for.
    pub(super) is_part: bool,
}

impl Traffic {
    pub(super) fn of(arguments: &Arguments, policy: &Policy) -> anyhow::Result<Traffic> {
        if let Some(hours) = arguments.hours.filter(|hours| !(hours.is_finite() && *hours > 0.0)) {
            bail!("--hours {hours} is not above zero");
        }
        let part = 1.0 / f64::from(arguments.one_in);
        let (traces, name, part) = match arguments.rps {
            Some(rps) => (vec![described(arguments, rps * part)?], description(arguments), 1.0),
            None => {
                let traces: Vec<Trace> =
                    arguments.traces.iter().map(|file| Trace::load(file)).collect::<Result<_, _>>()?;
                let names: Vec<&str> = traces.iter().map(|trace| trace.name.as_str()).collect();
                let name = names.join(" + ");
                (traces, name, part)
            }
        };
        let for_s = arguments.hours.map_or(f64::INFINITY, |hours| hours * 3600.0);
        let rules = rules(&traces, &arguments.classes, policy)?;
        let all = Slice { from_s: 0.0, for_s, is_part: false };
        let rows: usize = traces.iter().map(|trace| taken(trace, for_s)).sum();
        let scale = if arguments.rps.is_some() { f64::from(arguments.one_in) } else { 1.0 };
        let requests = (rows as f64 * scale) as u64;
        if rows == 0 {
            bail!("there is not one request in so short a time; give more --hours or a higher --rps");
        }
        let span_s = traces.iter().map(|trace| last_s(trace, for_s)).fold(0.0, f64::max);
        let words = format!(
            "{name}\n{} in {}, {} a second",
            of(requests, "request"),
            span(span_s),
            rate(requests as f64 / span_s.max(1e-6))
        );
        Ok(Traffic { traces, rules, part, seed: arguments.seed, all, words })
    }

    /// All of it.
    pub(super) fn all(&self) -> Slice {
        self.all
    }

    /// The stretch with so many requests that come closest together; all where there are no more.
    pub(super) fn busiest(&self, most: usize) -> Slice {
        let all = self.all;
        let rows = self.traces.iter().flat_map(|trace| trace.rows.iter().map(|row| row.at.as_secs()));
        let mut at_s: Vec<f64> = rows.filter(|at_s| *at_s <= all.for_s).collect();
        at_s.sort_unstable_by(f64::total_cmp);
        let wanted = (most as f64 / self.part) as usize;
        let stretches = at_s.iter().zip(at_s.iter().skip(wanted)).map(|(from, to)| (*from, to - from));
        let busiest = stretches.min_by(|one, other| one.1.total_cmp(&other.1));
        busiest.map_or(all, |(from_s, for_s)| Slice { from_s, for_s, is_part: true })
    }

    /// The requests at a load.
    pub(super) fn workload(&self, slice: Slice, load: f64) -> Workload {
        let Slice { from_s, for_s, .. } = slice;
        let shape = Shape { load, seed: self.seed, from_s, for_s, part: self.part, ..Shape::default() };
        Workload::by(&self.rules, &self.traces, &shape)
    }
}

fn taken(trace: &Trace, for_s: f64) -> usize {
    trace.rows.partition_point(|row| row.at.as_secs() <= for_s)
}

fn last_s(trace: &Trace, for_s: f64) -> f64 {
    let last = taken(trace, for_s).checked_sub(1).and_then(|last| trace.rows.get(last));
    last.map_or(0.0, |row| row.at.as_secs())
}

fn described(arguments: &Arguments, rps: f64) -> anyhow::Result<Trace> {
    let positive = |name: &str, figure: f64| match figure.is_finite() && figure > 0.0 {
        true => Ok(figure),
        false => Err(anyhow!("{name} {figure} is not a number above zero")),
    };
    let (rps, burstiness) = (positive("--rps", rps)?, positive("--burstiness", arguments.burstiness)?);
    if burstiness > MOST_BURSTINESS {
        bail!("--burstiness {burstiness} is above {MOST_BURSTINESS}: all requests would come at one moment");
    }
    let duration_s = arguments.hours.unwrap_or(DESCRIBED_HOURS) * 3600.0;
    if rps * duration_s > MOST_REQUESTS {
        bail!(
            "{:.0} million requests do not fit into memory, at most {:.0} million do; give fewer --hours, or simulate a part \
             of the fleet with --one-in",
            rps * duration_s / 1e6,
            MOST_REQUESTS / 1e6
        );
    }
    let (Lengths(input), Lengths(output)) = (arguments.input, arguments.output);
    Ok(Described { rps, duration_s, burstiness, input, output }.trace(arguments.seed))
}

fn description(arguments: &Arguments) -> String {
    let length = |Lengths(lengths): Lengths| format!("{:.0} ({:.0})", lengths.median_tokens, lengths.p90_tokens);
    let burstiness = match arguments.burstiness {
        1.0 => String::new(),
        burstiness => format!(", burstiness {burstiness}"),
    };
    let (input, output) = (length(arguments.input), length(arguments.output));
    format!("described load: prompts of {input} and answers of {output} tokens in the median (p90){burstiness}")
}

/// The shares that were given; else those that suit the traces, where the policy has these classes.
fn rules(traces: &[Trace], shares: &[Share], policy: &Policy) -> anyhow::Result<Rules> {
    let known = || policy.classes.iter().map(|class| class.name.as_str());
    let all = || known().collect::<Vec<_>>().join(", ");
    if shares.is_empty() {
        let mixes: Vec<Mix> = traces.iter().map(Mix::suiting).collect();
        let mut needed = mixes.iter().flat_map(|mix| &mix.classes).filter(|class| class.share > 0.0);
        if let Some(missing) = needed.find(|class| policy.class_by_name(&class.name).is_none()) {
            bail!(
                "the policy has no class `{}`; say which part of the requests is of which of its classes ({}) with --classes",
                missing.name,
                all()
            );
        }
        return Ok(Rules::of(traces));
    }
    for share in shares {
        if policy.class_by_name(&share.class).is_none() {
            let help = match nearest(&share.class, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has {}", all()),
            };
            bail!("--classes: the policy has no class `{}`; {help}", share.class);
        }
    }
    let sum: f64 = shares.iter().map(|share| share.part).sum();
    if sum <= 0.0 {
        bail!("--classes: all parts are zero");
    }
    let usual = Mix::conversation();
    let part = |class: &Class| {
        let own = shares.iter().filter(|share| share.class == class.name);
        own.map(|share| share.part / sum).sum::<f64>()
    };
    let mut classes: Vec<&Class> = policy.classes.iter().collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.priority));
    let classes = classes.into_iter().map(|class| rule(class, part(class), &usual)).collect();
    Ok(Rules::stated(traces, &Mix { classes, bound_tokens: usual.bound_tokens }))
}

/// A class that the usual mix knows is as there; another streams where it promises anything of a stream.
fn rule(class: &Class, share: f64, usual: &Mix) -> ClassRule {
    let known = usual.classes.iter().find(|known| known.name == class.name);
    let streamed = class.slo.ttft_ms.is_some() || class.slo.itl_ms.is_some();
    let own = || ClassRule {
        name: class.name.clone(),
        share,
        longest_input_tokens: u32::MAX,
        longest_output_tokens: u32::MAX,
        streams: if streamed { 1.0 } else { 0.0 },
    };
    known.map_or_else(own, |known| ClassRule { share, ..known.clone() })
}

/// `2 h`, `58 min`, `45 s`
pub(super) fn span(seconds: f64) -> String {
    let one_digit = |figure: f64| format!("{figure:.1}").trim_end_matches(".0").to_owned();
    match seconds {
        seconds if seconds >= 5400.0 => format!("{} h", one_digit(seconds / 3600.0)),
        seconds if seconds >= 90.0 => format!("{} min", one_digit(seconds / 60.0)),
        seconds => format!("{} s", one_digit(seconds)),
    }
}

/// Requests per second: three digits that count.
pub(super) fn rate(rps: f64) -> String {
    match rps {
        rps if rps >= 100.0 => crate::commands::figures::count(rps.round() as u64),
        rps if rps >= 10.0 => format!("{rps:.1}"),
        rps => format!("{rps:.2}"),
    }
}
