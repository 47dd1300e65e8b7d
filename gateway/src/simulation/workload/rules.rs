//! What no public trace carries: which class a row belongs to, who asks, what bound the caller sets. Stated rules,
//! drawn from a seed.
//!
//! - A trace is of code where its name says so, or where half of its answers have at most 40 tokens; else it is of
//!   conversations.
//! - Conversations: 25 % realtime, 45 % interactive, 20 % standard, 10 % batch. Code: 70 % interactive, 30 % standard.
//! - A promise that no machine could keep is not made: prompts above 4,096 tokens are not realtime, above 8,192 not
//!   interactive, above 32,768 not standard; they take the next more patient class.
//! - Realtime answers end at 250 tokens, which the caller says. Others are bounded by 1,024 tokens in conversations and
//!   2,048 in code, or by the next 1,024 above a longer answer.
//! - Realtime and interactive requests stream, half of the standard ones do, batch does not.
//! - Tenants are the trace's clients; where it has none, eight, the k-th of which asks 1/k as often as the first.

use std::collections::HashMap;

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::trace::{Row, Trace};

/// At most so many tokens in half of the answers make a trace one of code.
const CODE_ANSWER_TOKENS: u32 = 40;
/// Tenants of a trace without clients.
const TENANTS: u16 = 8;
/// Bounds on answers are multiples of this many tokens.
const BOUND_STEP_TOKENS: u32 = 1024;

/// One class of a mix; classes are listed from the most urgent to the most patient.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassRule {
    /// Its name in the policy.
    pub name: String,
    /// Its part of the requests, 0 to 1.
    pub share: f64,
    /// Longer prompts take the next class, tokens.
    pub longest_input_tokens: u32,
    /// Answers end here, tokens.
    pub longest_output_tokens: u32,
    /// The part that streams, 0 to 1.
    pub streams: f64,
}

/// The classes of one kind of traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// From the most urgent to the most patient.
    pub classes: Vec<ClassRule>,
    /// The bound that callers set on answers, tokens.
    pub bound_tokens: u32,
}

impl Mix {
    /// Conversations.
    pub fn conversation() -> Mix {
        Mix::of([0.25, 0.45, 0.20, 0.10], 1024)
    }

    /// Code.
    pub fn code() -> Mix {
        Mix::of([0.0, 0.70, 0.30, 0.0], 2048)
    }

    /// The mix that suits a trace.
    pub fn suiting(trace: &Trace) -> Mix {
        let name = trace.name.to_ascii_lowercase();
        let mut answers: Vec<u32> = trace.rows.iter().map(|row| row.output_tokens).collect();
        answers.sort_unstable();
        let short = answers.get(answers.len() / 2).is_some_and(|median| *median <= CODE_ANSWER_TOKENS);
        let says_code = name.contains("code") || name.contains("coding");
        let says_conversation = name.contains("conv") || name.contains("chat");
        if says_code || (short && !says_conversation) { Mix::code() } else { Mix::conversation() }
    }

    fn names(&self) -> Vec<String> {
        self.classes.iter().map(|class| class.name.clone()).collect()
    }

    fn of(shares: [f64; 4], bound_tokens: u32) -> Mix {
        let rows = [
            ("realtime", 4_096, 250, 1.0),
            ("interactive", 8_192, u32::MAX, 1.0),
            ("standard", 32_768, u32::MAX, 0.5),
            ("batch", u32::MAX, u32::MAX, 0.0),
        ];
        let classes = rows.into_iter().zip(shares).map(|((name, input, output, streams), share)| ClassRule {
            name: name.to_owned(),
            share,
            longest_input_tokens: input,
            longest_output_tokens: output,
            streams,
        });
        Mix { classes: classes.collect(), bound_tokens }
    }
}

/// What was drawn for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Index of its class.
    pub class: u8,
    /// Its answer, cut at the class's bound.
    pub output_tokens: u32,
    /// The caller's bound.
    pub max_output_tokens: u32,
    /// Whether it streams.
    pub stream: bool,
}

/// The mixes of several traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    mixes: HashMap<String, Mix>,
    classes: Vec<String>,
}

impl Rules {
    /// The mix that suits each trace.
    pub fn of(traces: &[Trace]) -> Rules {
        let mixes = traces.iter().map(|trace| (trace.name.clone(), Mix::suiting(trace))).collect();
        Rules { mixes, classes: Mix::conversation().names() }
    }

    /// One mix for all traces.
    pub fn stated(traces: &[Trace], mix: &Mix) -> Rules {
        Rules { mixes: traces.iter().map(|trace| (trace.name.clone(), mix.clone())).collect(), classes: mix.names() }
    }

    /// Names of all classes, from the most urgent.
    pub fn class_names(&self) -> Vec<String> {
        self.classes.clone()
    }

    /// Draws for a row; always the same number of draws, so that rows do not disturb each other.
    pub fn draw(&self, trace: &Trace, row: &Row, random: &mut Pcg64Mcg) -> Drawn {
        let (mut left, stream): (f64, f64) = (random.random(), random.random());
        let Some(mix) = self.mixes.get(&trace.name) else {
            return Drawn { class: 0, output_tokens: row.output_tokens, max_output_tokens: 0, stream: true };
        };
        let drawn = mix.classes.iter().position(|class| {
            left -= class.share;
            left < 0.0
        });
        let drawn = drawn.unwrap_or(mix.classes.len().saturating_sub(1));
        let takes = |class: &ClassRule| row.input_tokens <= class.longest_input_tokens;
        let class = mix.classes.iter().skip(drawn).position(takes).map_or(drawn, |further| drawn + further);
        let rule = mix.classes.get(class);
        let longest = rule.map_or(u32::MAX, |rule| rule.longest_output_tokens);
        let output_tokens = row.output_tokens.min(longest);
        let bound = mix.bound_tokens.max(output_tokens.next_multiple_of(BOUND_STEP_TOKENS)).min(longest);
        Drawn {
            class: u8::try_from(class).unwrap_or(u8::MAX),
            output_tokens,
            max_output_tokens: bound,
            stream: stream < rule.map_or(1.0, |rule| rule.streams),
        }
    }
}

/// Who asks.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    names: Vec<String>,
    known: HashMap<String, u16>,
}

impl Tenants {
    /// The row's client, or one of eight.
    pub(super) fn of(&mut self, trace: &Trace, row: &Row, random: &mut Pcg64Mcg) -> u16 {
        let draw: f64 = random.random();
        match row.client.and_then(|client| trace.clients.get(usize::from(client))) {
            Some(client) => self.named(client),
            None => self.named(&format!("tenant-{}", zipf(draw))),
        }
    }

    pub(super) fn names(self) -> Vec<String> {
        self.names
    }

    fn named(&mut self, name: &str) -> u16 {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let next = u16::try_from(self.names.len()).unwrap_or(u16::MAX);
        self.names.push(name.to_owned());
        self.known.insert(name.to_owned(), next);
        next
    }
}

fn zipf(draw: f64) -> u16 {
    let all: f64 = (1..=TENANTS).map(|rank| 1.0 / f64::from(rank)).sum();
    let mut left = draw * all;
    let met = (1..=TENANTS).find(|rank| {
        left -= 1.0 / f64::from(*rank);
        left < 0.0
    });
    met.unwrap_or(TENANTS)
}
