//! What a request needs of a machine at the very least, and whether the machine can keep its promise even when nobody
//! else is there.

use pointsman_backends::simulators::profile::Profile;

use super::instance::{Ask, Machines};

/// Machines draw their step times from a lognormal of mean one. A promise counts as out of reach only if even luck of
/// this many standard deviations would not save it.
const LUCK_SIGMAS: f64 = 3.0;

/// What one request takes of one machine at the least, while its promise is kept there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Need {
    /// The price, US dollars.
    pub usd: f64,
    /// Nothing is done before, milliseconds after it arrives.
    pub begins_after_ms: f64,
    /// When its prompt must be computed at the latest, milliseconds after it arrives.
    pub prefilled_within_ms: f64,
    /// When its last token must be there, milliseconds after it arrives.
    pub last_within_ms: f64,
    /// Of the machine's time.
    pub work: Work,
}

/// The machine's time that a request takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Of a machine whose sequences share steps.
    Shared(Shared),
    /// Of a machine that gives each sequence a slot.
    Slot(Slot),
}

/// Work on a machine whose sequences share steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shared {
    /// Prefill, milliseconds.
    pub prefill_ms: f64,
    /// The part of the prefill that no decoding step can hide, milliseconds.
    pub stall_ms: f64,
    /// What it adds to the steps it takes part in, with its share of their base where that is known, milliseconds.
    pub own_ms: f64,
    /// Its share of their base in a full batch, milliseconds.
    pub crowded_ms: f64,
    /// Its share of their base at the pace it is promised, if all steps were alike, milliseconds.
    pub paced_ms: f64,
    /// Decoding cannot be done in less than this, milliseconds.
    pub decode_at_least_ms: f64,
}

/// Work on a machine that gives each sequence a slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    /// How long it has the slot, milliseconds.
    pub held_ms: f64,
    /// How long after its arrival it may still start, milliseconds.
    pub slack_ms: f64,
    /// What it takes of the limit on tokens in the end.
    pub tokens: f64,
}

/// Who bears the base time of a step. Any split among those who take part is valid; the scarcer resource makes the
/// better bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseShare {
    /// All alike: right where slots or pace bound the batch.
    ByHead,
    /// By the memory they hold: right where KV memory bounds the batch.
    ByMemory,
}

impl BaseShare {
    /// The better split for requests of this mean length.
    pub fn of(profile: &Profile, mean_kv_tokens: f64) -> BaseShare {
        let slots = f64::from(profile.service.slots.max(1));
        match profile.service.kv_tokens {
            Some(kv_tokens) if slots * mean_kv_tokens > kv_tokens as f64 => BaseShare::ByMemory,
            _ => BaseShare::ByHead,
        }
    }
}

/// What a request needs of a machine of these; `None` where its promise cannot be kept there.
pub fn need(machines: &Machines, ask: &Ask, share: BaseShare) -> Option<Need> {
    let profile = &machines.profile;
    if ask.input_tokens + ask.output_tokens > profile.longest() {
        return None;
    }
    let usd = machines.usd(ask);
    let last_within_ms = ask.whole_within_ms();
    if profile.batches() {
        let (work, before_ms, first_step_ms) = shared(machines, ask, share)?;
        let prefilled_within_ms = ask.first_within_ms() - machines.round_trip_ms / 2.0 - first_step_ms;
        let begins_after_ms = before_ms - machines.round_trip_ms / 2.0;
        return Some(Need { usd, begins_after_ms, prefilled_within_ms, last_within_ms, work: Work::Shared(work) });
    }
    let begins_after_ms = machines.round_trip_ms / 2.0;
    let work = Work::Slot(slot(machines, ask)?);
    Some(Need { usd, begins_after_ms, prefilled_within_ms: ask.first_within_ms(), last_within_ms, work })
}

/// The work, what passes before it, and the least that its first step of decoding takes, milliseconds.
fn shared(machines: &Machines, ask: &Ask, share: BaseShare) -> Option<(Shared, f64, f64)> {
    let profile = &machines.profile;
    let service = &profile.service;
    let (tokens, gaps) = (ask.output_tokens.max(1) as f64, ask.gaps());
    let per_kv_ms = service.step_per_kv_token_ns / 1e6;
    // Tokens in memory, summed over the steps that make an answer token.
    let held = tokens * ask.input_tokens as f64 + tokens * (tokens - 1.0) / 2.0;
    let own_ms = tokens * service.step_per_sequence_ms + per_kv_ms * held;
    let decode_ms = tokens * service.step_base_ms + own_ms;
    let first_step_ms = service.step_base_ms + service.step_per_sequence_ms + per_kv_ms * ask.input_tokens as f64;
    let uncached_tokens = uncached(profile, ask);
    let prefill_ms = uncached_tokens as f64 / service.prefill_tokens_per_s * 1e3;
    let chunks = uncached_tokens.div_ceil(profile.prefill_chunk_tokens.max(1));
    // A step that only prefills takes at least its base.
    let prefilled_after_ms = prefill_ms.max(service.step_base_ms * chunks as f64);
    let before_ms = machines.round_trip_ms + service.fixed_ttft_ms;
    let steps_to_first = chunks as f64 + 1.0;
    let first_ms = before_ms + (prefilled_after_ms + first_step_ms) * luck(profile, steps_to_first);
    let later_ms = decode_ms - first_step_ms;
    let last_ms = before_ms + (prefilled_after_ms + decode_ms) * luck(profile, steps_to_first + gaps);
    let gap_ms = later_ms / gaps.max(1.0);
    let pace_luck = luck(profile, gaps);
    let late = first_ms > ask.first_within_ms() || last_ms > ask.whole_within_ms();
    if late || gap_ms * pace_luck > ask.gap_within_ms() {
        return None;
    }
    let slots = f64::from(service.slots.max(1));
    let kv_most = service.kv_tokens.map_or(slots * profile.longest() as f64, |kv_tokens| kv_tokens as f64);
    let longest_ms = service.step_base_ms + service.step_per_sequence_ms * slots + per_kv_ms * kv_most;
    let full_steps = uncached_tokens as f64 / profile.prefill_chunk_tokens.max(1) as f64;
    let stall_ms = (prefill_ms - longest_ms * full_steps - longest_ms.min(prefill_ms)).max(0.0);
    let work = Shared {
        prefill_ms,
        stall_ms,
        own_ms,
        crowded_ms: 0.0,
        paced_ms: 0.0,
        decode_at_least_ms: decode_ms * pace_luck,
    };
    let work = match share {
        BaseShare::ByHead => {
            let slack_ms = (ask.whole_within_ms() - before_ms) / gaps.max(1.0);
            let pace_ms = ask.gap_within_ms().min(slack_ms) / pace_luck;
            let room = (pace_ms - gap_ms) / service.step_per_sequence_ms;
            let company = if room.is_nan() { slots } else { (1.0 + room.max(0.0)).min(slots) };
            let paced_ms = service.step_base_ms * (gaps / company + 1.0 / slots);
            Shared { crowded_ms: service.step_base_ms * tokens / slots, paced_ms, ..work }
        }
        BaseShare::ByMemory => {
            let memory = service.kv_tokens.map_or(f64::INFINITY, |kv_tokens| kv_tokens as f64);
            // Blocks that others have, too, are in memory once: they count for who brings them first.
            let unshared = held - tokens * (ask.input_tokens - uncached_tokens) as f64;
            Shared { own_ms: own_ms + service.step_base_ms * unshared / memory, ..work }
        }
    };
    Some((work, before_ms, first_step_ms * luck(profile, 1.0)))
}

fn slot(machines: &Machines, ask: &Ask) -> Option<Slot> {
    let profile = &machines.profile;
    let service = &profile.service;
    let step_ms = |kv_tokens: f64| {
        service.step_base_ms + service.step_per_sequence_ms + service.step_per_kv_token_ns / 1e6 * kv_tokens
    };
    let input = ask.input_tokens as f64;
    let first_ms =
        service.fixed_ttft_ms + uncached(profile, ask) as f64 / service.prefill_tokens_per_s * 1e3 + step_ms(input);
    let gap_ms = step_ms(input);
    let events = ask.gaps() / service.tokens_per_event.max(1.0);
    let (first_luck, pace_luck) = (luck(profile, 1.0), luck(profile, events));
    let later_ms = gap_ms * ask.gaps();
    let first_slack = ask.first_within_ms() - machines.round_trip_ms - first_ms * first_luck;
    let last_slack = ask.whole_within_ms() - machines.round_trip_ms - first_ms * first_luck - later_ms * pace_luck;
    let slack_ms = first_slack.min(last_slack);
    if slack_ms < 0.0 || gap_ms * pace_luck > ask.gap_within_ms() {
        return None;
    }
    let tokens = (ask.input_tokens + ask.output_tokens) as f64;
    Some(Slot { held_ms: first_ms + later_ms, slack_ms, tokens })
}

/// Machines without a KV memory of their own keep no prompts.
fn uncached(profile: &Profile, ask: &Ask) -> u64 {
    if profile.service.kv_tokens.is_some() { ask.uncached_tokens } else { ask.input_tokens }
}

/// By what the mean of this many draws may be lower than it should.
fn luck(profile: &Profile, draws: f64) -> f64 {
    (-LUCK_SIGMAS * profile.service.jitter_sigma / draws.max(1.0).sqrt()).exp()
}
