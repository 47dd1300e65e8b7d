//! Machines that batch: one step serves every running sequence, chunks of prompts ride along, KV memory bounds the
//! batch.

use pointsman_policies::units::Micros;

use super::engine::{Emission, Intake, slots};
use super::sequence::Sequence;

/// Running sequences in order of admission, and the step they share.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    members: Vec<Member>,
    kv_tokens: u64,
    step_ends: Option<Micros>,
}

#[derive(Clone, Debug)]
struct Member {
    sequence: Sequence,
    /// Prompt tokens still to compute.
    prefill_left: u64,
    /// Prompt tokens computed in the current step.
    chunk: u64,
}

impl Batch {
    pub(super) fn running(&self) -> usize {
        self.members.len()
    }

    pub(super) fn kv_tokens(&self) -> u64 {
        self.kv_tokens
    }

    /// The end of the current step; without one, when the first waiting job is ready.
    pub(super) fn next_event(&self, intake: &Intake) -> Option<Micros> {
        self.step_ends.or_else(|| intake.waiting.front().map(|sequence| sequence.ready))
    }

    /// Ends the current step, if there is one, and starts the next, if there is work.
    pub(super) fn happen(&mut self, at: Micros, intake: &mut Intake, sent: &mut Vec<Emission>) {
        if self.step_ends.take().is_some() {
            self.end_step(at, intake, sent);
            self.preempt_overflow(at, intake);
        }
        self.admit(at, intake);
        if !self.members.is_empty() {
            self.step_ends = Some(at + self.start_step(intake));
        }
    }

    /// Takes a job out of the batch. The step goes on without it.
    pub(super) fn remove(&mut self, id: u64) -> Option<Sequence> {
        let at = self.members.iter().position(|member| member.sequence.job.id == id)?;
        let member = self.members.remove(at);
        self.kv_tokens -= member.sequence.kv_tokens();
        if self.members.is_empty() {
            self.step_ends = None;
        }
        Some(member.sequence)
    }

    fn end_step(&mut self, at: Micros, intake: &mut Intake, sent: &mut Vec<Emission>) {
        let kv_tokens = &mut self.kv_tokens;
        let tokens_per_event = intake.profile.service.tokens_per_event;
        self.members.retain_mut(|member| {
            if member.prefill_left > 0 {
                member.prefill_left -= member.chunk;
                return true;
            }
            let sequence = &mut member.sequence;
            *kv_tokens += 1;
            if let Some(emission) = sequence.produce(1, at, tokens_per_event) {
                intake.counters.output_tokens += u64::from(emission.tokens);
                sent.push(emission);
            }
            if sequence.is_finished() {
                *kv_tokens -= sequence.kv_tokens();
                intake.complete(at, sequence);
                return false;
            }
            true
        });
    }

    /// The youngest lose their place until the memory suffices. They go back to the head of the queue, where the
    /// oldest of them stands first, and will compute their prompt and what they produced again.
    fn preempt_overflow(&mut self, at: Micros, intake: &mut Intake) {
        let capacity = intake.profile.service.kv_tokens.unwrap_or(u64::MAX);
        while self.kv_tokens > capacity {
            let Some(Member { mut sequence, .. }) = self.members.pop() else { break };
            self.kv_tokens -= sequence.kv_tokens();
            sequence.ready = at;
            intake.counters.preempted += 1;
            intake.waiting.push_front(sequence);
        }
    }

    fn admit(&mut self, at: Micros, intake: &mut Intake) {
        let capacity = intake.profile.service.kv_tokens.unwrap_or(u64::MAX);
        let places = slots(&intake.profile);
        while self.members.len() < places {
            // With room for one token more for everyone: whoever is admitted into the last of the memory would be
            // thrown out by the next step.
            let headroom = self.members.len() as u64 + 1;
            let free = capacity.saturating_sub(self.kv_tokens);
            let alone = self.members.is_empty();
            let fits = |sequence: &Sequence, _: &Intake| alone || sequence.kv_tokens() + headroom <= free;
            let Some(mut sequence) = intake.pop_ready(at, fits) else { break };
            sequence.admit(at);
            self.kv_tokens += sequence.kv_tokens();
            self.members.push(Member { prefill_left: sequence.uncomputed_tokens(), chunk: 0, sequence });
        }
    }

    /// Shares the prefill budget out in order of admission. How long the step takes.
    fn start_step(&mut self, intake: &mut Intake) -> Micros {
        let mut budget = intake.profile.prefill_chunk_tokens.max(1);
        let (mut prefilled, mut decoding, mut kv_read) = (0, 0_u64, 0);
        for member in &mut self.members {
            member.chunk = member.prefill_left.min(budget);
            budget -= member.chunk;
            prefilled += member.chunk;
            if member.prefill_left == 0 {
                decoding += 1;
                kv_read += member.sequence.kv_tokens();
            }
        }
        let service = &intake.profile.service;
        let decode_ms = service.step_base_ms
            + service.step_per_sequence_ms * decoding as f64
            + service.step_per_kv_token_ns * kv_read as f64 / 1e6;
        let prefill_ms = prefilled as f64 / service.prefill_tokens_per_s * 1e3;
        intake.jittered(decode_ms.max(prefill_ms)).max(Micros(1))
    }
}
