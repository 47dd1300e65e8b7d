//! The best schedule of a few requests on machines of one slot without chance, by enumeration: for each set of requests
//! and machine, whether all can keep their promises there, and then the best split of the requests among machines.

use crate::oracle::instance::{Ask, Instance, Machines};

/// Times are rounded to microseconds in the simulation, one event at a time, milliseconds.
const ROUNDING_MS: f64 = 0.2;

/// The utility of the best schedule, US dollars.
pub fn utility_usd(instance: &Instance) -> f64 {
    let sets = 1_usize << instance.asks.len();
    let machines = instance.machines.iter().flat_map(|machines| std::iter::repeat_n(machines, machines.count));
    let mut best = vec![0.0; sets];
    for machine in machines {
        let earned = earned(instance, machine);
        let before = best.clone();
        for set in 0..sets {
            // Every way to give a part of the set to this machine and the rest to those before.
            let mut part = set;
            loop {
                best[set] = f64::max(best[set], before[set & !part] + earned[part]);
                if part == 0 {
                    break;
                }
                part = (part - 1) & set;
            }
        }
    }
    best[sets - 1]
}

/// For each set, what it earns on a machine; minus infinity where not all promises can be kept.
fn earned(instance: &Instance, machine: &Machines) -> Vec<f64> {
    let asks = &instance.asks;
    let mut done_ms = vec![f64::INFINITY; 1 << asks.len()];
    let mut usd = vec![f64::NEG_INFINITY; 1 << asks.len()];
    (done_ms[0], usd[0]) = (0.0, 0.0);
    for set in 1_usize..1 << asks.len() {
        for (last, ask) in asks.iter().enumerate().filter(|(last, _)| set >> last & 1 == 1) {
            let before = set & !(1 << last);
            let begin_ms = done_ms[before].max(ask.at.as_ms() + machine.round_trip_ms / 2.0);
            let Some(held_ms) = held(machine, ask, begin_ms) else { continue };
            done_ms[set] = done_ms[set].min(begin_ms + held_ms);
            usd[set] = usd[before] + instance.value_usd(ask) - machine.usd(ask);
        }
        if done_ms[set].is_infinite() {
            usd[set] = f64::NEG_INFINITY;
        }
    }
    usd
}

/// How long a request holds the slot if it begins then; `None` where it would miss.
fn held(machine: &Machines, ask: &Ask, begin_ms: f64) -> Option<f64> {
    let service = &machine.profile.service;
    let step_ms = service.step_base_ms;
    let first_ms = service.fixed_ttft_ms + ask.input_tokens as f64 / service.prefill_tokens_per_s * 1e3 + step_ms;
    let held_ms = first_ms + step_ms * ask.gaps();
    let since_ms = begin_ms - ask.at.as_ms() + machine.round_trip_ms / 2.0 - ROUNDING_MS;
    let late = since_ms + first_ms > ask.first_within_ms() || since_ms + held_ms > ask.whole_within_ms();
    (!late && step_ms <= ask.gap_within_ms() + ROUNDING_MS).then_some(held_ms)
}
