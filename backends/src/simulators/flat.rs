//! Machines that do not batch: wafers, language processing units, rented APIs. Each sequence has a slot and its own
//! pace; load shows only when the slots are full.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pointsman_policies::units::Micros;

use super::intake::Intake;
use super::sequence::{Emission, Sequence};

/// Sequences in slots, and the next event of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Flat {
    slots: Vec<Option<Running>>,
    free: Vec<usize>,
    kv_tokens: u64,
    /// Next events: when, the sequence's number (who came first goes first), its slot.
    due: BinaryHeap<Reverse<(Micros, u64, usize)>>,
    admitted: u64,
}

#[derive(Clone, Debug)]
struct Running {
    sequence: Sequence,
    /// In order of admission.
    number: u64,
    /// KV memory set aside for all it may come to hold: nothing is preempted here.
    kv_tokens: u64,
    /// When its last event was, or it was admitted; when its next is.
    between: (Micros, Micros),
}

impl Running {
    /// Tokens made since the last event: none before the first, then at an even pace. An event that is due has its own.
    fn made_by(&self, now: Micros) -> u64 {
        let (since, next) = self.between;
        if self.sequence.produced == 0 || now >= next {
            return 0;
        }
        let passed = (now - since).as_secs() / (next - since).as_secs().max(f64::MIN_POSITIVE);
        (self.sequence.tokens_to_event() as f64 * passed) as u64
    }
}

impl Flat {
    pub(super) fn running(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn kv_tokens(&self) -> u64 {
        self.kv_tokens
    }

    /// Tokens made since the last events.
    pub(super) fn made_by(&self, now: Micros) -> u64 {
        self.slots.iter().flatten().map(|running| running.made_by(now)).sum()
    }

    /// What the machine draws beyond its idle share, as a part of all it can draw beyond: slots in use.
    pub(super) fn activity(&self, intake: &Intake) -> f64 {
        (self.running() as f64 / f64::from(intake.profile.service.slots.max(1))).min(1.0)
    }

    /// The next event of a stream, or the moment a waiting job can be given a slot.
    pub(super) fn next_event(&self, intake: &Intake) -> Option<Micros> {
        let admission = match intake.waiting.front() {
            Some(next) if self.fits(next, intake) => intake.next_ready(),
            // Neighbours may leave a slot.
            Some(_) => intake.next_spell(),
            None => None,
        };
        let event = self.due.peek().map(|Reverse((at, _, _))| *at);
        match (admission, event) {
            (Some(admission), Some(event)) => Some(admission.min(event)),
            (admission, event) => admission.or(event),
        }
    }

    /// Sends one event, if one is due, and fills free slots.
    pub(super) fn happen(&mut self, at: Micros, intake: &mut Intake, sent: &mut Vec<Emission>) {
        intake.pass(at);
        if let Some(&Reverse((due, number, slot))) = self.due.peek()
            && due <= at
        {
            self.due.pop();
            self.send(due, number, slot, intake, sent);
        }
        while let Some(sequence) = intake.pop_ready(at, |next, intake| self.fits(next, intake)) {
            self.admit(at, sequence, intake);
        }
    }

    /// Takes a job out of its slot, with what it produced by now.
    pub(super) fn remove(&mut self, now: Micros, id: u64, intake: &mut Intake) -> Option<Sequence> {
        let slot =
            self.slots.iter().position(|running| running.as_ref().is_some_and(|held| held.sequence.job.id == id))?;
        self.due.retain(|Reverse((_, _, due))| *due != slot);
        let made = self.slots.get(slot)?.as_ref()?.made_by(now);
        let mut sequence = self.take(slot)?;
        sequence.produced += made;
        intake.counters.output_tokens += made;
        Some(sequence)
    }

    /// Everything in slots, in order of admission, with what it produced by now; the slots are empty afterwards.
    pub(super) fn clear(&mut self, now: Micros, intake: &mut Intake) -> Vec<Sequence> {
        let mut ids: Vec<(u64, u64)> =
            self.slots.iter().flatten().map(|running| (running.number, running.sequence.job.id)).collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|(_, id)| self.remove(now, id, intake)).collect()
    }

    fn fits(&self, next: &Sequence, intake: &Intake) -> bool {
        let capacity = intake.profile.service.kv_tokens.unwrap_or(u64::MAX);
        self.running() < intake.places() && all_kv(next).saturating_add(self.kv_tokens) <= capacity
    }

    fn admit(&mut self, at: Micros, mut sequence: Sequence, intake: &mut Intake) {
        sequence.admit(at);
        self.admitted += 1;
        let number = self.admitted;
        let kv_tokens = all_kv(&sequence);
        self.kv_tokens += kv_tokens;
        let service = &intake.profile.service;
        let first_ms = service.fixed_ttft_ms
            + sequence.uncomputed_tokens() as f64 / service.prefill_tokens_per_s * 1e3
            + self.step_ms(&sequence, intake);
        let first_ms = first_ms * intake.jitter(1) / intake.speed;
        let first = at + intake.among_neighbours(at, first_ms, true).max(Micros(1));
        let running = Some(Running { sequence, number, kv_tokens, between: (at, first) });
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot) {
                    *place = running;
                }
                slot
            }
            None => {
                self.slots.push(running);
                self.slots.len() - 1
            }
        };
        self.due.push(Reverse((first, number, slot)));
    }

    fn send(&mut self, at: Micros, number: u64, slot: usize, intake: &mut Intake, sent: &mut Vec<Emission>) {
        let Some(Some(running)) = self.slots.get_mut(slot) else { return };
        let sequence = &mut running.sequence;
        let tokens = sequence.tokens_to_event();
        intake.counters.output_tokens += tokens;
        sent.extend(sequence.produce(tokens, at, intake.profile.tokens_per_event()));
        if sequence.is_finished() {
            if let Some(sequence) = self.take(slot) {
                intake.complete(at, &sequence);
            }
            return;
        }
        let Some(Some(Running { sequence, .. })) = self.slots.get(slot) else { return };
        let tokens = sequence.tokens_to_event();
        // Told or not, a stream has its events: each varies, each may meet the pause.
        let events = (tokens as f64 / intake.profile.service.tokens_per_event.max(1.0)).round().max(1.0) as u64;
        let pace_ms = self.step_ms(sequence, intake) * tokens as f64 * intake.jitter(events) / intake.speed;
        let pace = intake.among_neighbours(at, pace_ms, false).max(Micros(1));
        let next = at + pace + intake.tail(events);
        self.due.push(Reverse((next, number, slot)));
        if let Some(Some(running)) = self.slots.get_mut(slot) {
            running.between = (at, next);
        }
    }

    fn take(&mut self, slot: usize) -> Option<Sequence> {
        let running = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        self.kv_tokens -= running.kv_tokens;
        Some(running.sequence)
    }

    /// Time per token. What others add is zero in the catalog, but a pool may have measured otherwise.
    fn step_ms(&self, sequence: &Sequence, intake: &Intake) -> f64 {
        let service = &intake.profile.service;
        service.step_base_ms
            + service.step_per_sequence_ms * self.running() as f64
            + service.step_per_kv_token_ns * sequence.kv_tokens() as f64 / 1e6
    }
}

fn all_kv(sequence: &Sequence) -> u64 {
    sequence.job.prompt_tokens.saturating_add(sequence.job.output_tokens)
}
