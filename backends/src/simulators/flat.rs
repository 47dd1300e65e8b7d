//! Machines that do not batch: wafers, language processing units, rented APIs. Each sequence has a slot and its own
//! pace; load shows only when the slots are full.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pointsman_policies::units::Micros;

use super::engine::{Emission, Intake, slots};
use super::sequence::Sequence;

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
    /// KV memory set aside for all it may come to hold: nothing is preempted here.
    kv_tokens: u64,
}

impl Flat {
    pub(super) fn running(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn kv_tokens(&self) -> u64 {
        self.kv_tokens
    }

    /// The next event of a stream, or the moment a waiting job can be given a slot.
    pub(super) fn next_event(&self, intake: &Intake) -> Option<Micros> {
        let admission = intake.waiting.front().filter(|next| self.fits(next, intake)).map(|next| next.ready);
        let event = self.due.peek().map(|Reverse((at, _, _))| *at);
        match (admission, event) {
            (Some(admission), Some(event)) => Some(admission.min(event)),
            (admission, event) => admission.or(event),
        }
    }

    /// Sends one event, if one is due, and fills free slots.
    pub(super) fn happen(&mut self, at: Micros, intake: &mut Intake, sent: &mut Vec<Emission>) {
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

    /// Takes a job out of its slot.
    pub(super) fn remove(&mut self, id: u64) -> Option<Sequence> {
        let slot =
            self.slots.iter().position(|running| running.as_ref().is_some_and(|held| held.sequence.job.id == id))?;
        self.due.retain(|Reverse((_, _, due))| *due != slot);
        self.take(slot)
    }

    fn fits(&self, next: &Sequence, intake: &Intake) -> bool {
        let capacity = intake.profile.service.kv_tokens.unwrap_or(u64::MAX);
        self.running() < slots(&intake.profile) && all_kv(next).saturating_add(self.kv_tokens) <= capacity
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
        let first = at + intake.jittered(first_ms).max(Micros(1));
        let running = Some(Running { sequence, kv_tokens });
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
        if let Some(emission) = sequence.produce(tokens, at, intake.profile.service.tokens_per_event) {
            intake.counters.output_tokens += u64::from(emission.tokens);
            sent.push(emission);
        }
        if sequence.is_finished() {
            if let Some(sequence) = self.take(slot) {
                intake.complete(at, &sequence);
            }
            return;
        }
        let Some(Some(Running { sequence, .. })) = self.slots.get(slot) else { return };
        let pace_ms = self.step_ms(sequence, intake) * sequence.tokens_to_event() as f64;
        let next = at + intake.jittered(pace_ms).max(Micros(1)) + intake.tail();
        self.due.push(Reverse((next, number, slot)));
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
