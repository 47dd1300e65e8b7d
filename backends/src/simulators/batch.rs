//! Machines that batch: one step serves every running sequence, chunks of prompts ride along, KV memory bounds the
//! batch.
//!
//! Between two moments at which anything changes for anybody, all who decode go on together: what one has produced is
//! a difference of step counts, the memory grows by arithmetic, and nothing is touched until the next event is due.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use pointsman_policies::power::DECODE_SHARE;
use pointsman_policies::units::Micros;

use super::intake::Intake;
use super::prefix::Prefixes;
use super::run::Run;
use super::sequence::{Emission, Sequence};

/// Running sequences, and the steps they share.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// In order of admission.
    members: BTreeMap<u64, Member>,
    /// Those whose prompt is not computed yet, in order of admission.
    prefilling: VecDeque<u64>,
    /// Next events of those who decode: the step they end with, the member. May hold some who have left.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    run: Option<Run>,
    /// Whether prompts are computed in the run.
    prefills: bool,
    /// Steps ended.
    steps: u64,
    admitted: u64,
    /// KV memory of the members without the blocks they share, tokens.
    own_kv: u64,
    /// KV memory that a decoding step reads, tokens: shared blocks are read for each member.
    read_kv: u64,
    prefixes: Prefixes,
}

#[derive(Clone, Debug)]
struct Member {
    sequence: Sequence,
    /// Prompt tokens still to compute.
    prefill_left: u64,
    /// Prompt tokens computed in the current step.
    chunk: u64,
    /// The step up to which its tokens are counted.
    counted: u64,
    /// The step that ends with its next event.
    due: u64,
    /// Blocks of its prompt held in the prefix cache.
    blocks: usize,
}

impl Batch {
    pub(super) fn new(prefix_block_tokens: Option<u64>) -> Batch {
        Batch {
            members: BTreeMap::new(),
            prefilling: VecDeque::new(),
            due: BinaryHeap::new(),
            run: None,
            prefills: false,
            steps: 0,
            admitted: 0,
            own_kv: 0,
            read_kv: 0,
            prefixes: Prefixes::new(prefix_block_tokens),
        }
    }

    pub(super) fn running(&self) -> usize {
        self.members.len()
    }

    /// KV memory in use when the current step began, tokens.
    pub(super) fn kv_tokens(&self) -> u64 {
        self.own_kv + self.prefixes.used_tokens()
    }

    /// Tokens made since the last event, each of which takes memory.
    pub(super) fn made_by(&self, now: Micros) -> u64 {
        self.run.map_or(0, |run| run.done_by(now)) * self.decoding()
    }

    /// What the machine draws beyond its idle share, as a part of all it can draw beyond.
    pub(super) fn activity(&self, idle_share: f64) -> f64 {
        match (&self.run, self.prefills) {
            (None, _) => 0.0,
            (Some(_), true) => 1.0,
            (Some(_), false) => ((DECODE_SHARE - idle_share) / (1.0 - idle_share)).max(0.0),
        }
    }

    /// The end of the current steps; without any, when the first waiting job is ready.
    pub(super) fn next_event(&self, intake: &Intake) -> Option<Micros> {
        self.run.map(|run| run.ends()).or_else(|| intake.next_ready())
    }

    /// Ends the current steps, if there are any, and starts the next, if there is work.
    pub(super) fn happen(&mut self, at: Micros, intake: &mut Intake, sent: &mut Vec<Emission>) {
        if let Some(run) = self.run.take() {
            self.end_run(run.steps(), intake);
            self.join_decoding();
            self.send_due(at, intake, sent);
            self.preempt_overflow(at, intake);
        }
        self.admit(at, intake);
        self.prefixes.fit_into(capacity(intake).saturating_sub(self.kv_tokens()));
        if !self.members.is_empty() {
            self.run = Some(self.start_run(at, intake));
        }
    }

    /// Someone waits who may be given a place earlier than the current steps end: between two of them.
    pub(super) fn make_way(&mut self, intake: &Intake) {
        let Some(ready) = intake.next_ready() else { return };
        let fits = intake.waiting.front().is_some_and(|next| self.fits(next, intake));
        if let Some(run) = self.run.as_mut().filter(|_| fits) {
            run.cut(ready);
        }
    }

    /// Takes a job out of the batch. The step goes on without it.
    pub(super) fn remove(&mut self, now: Micros, id: u64, intake: &mut Intake) -> Option<Sequence> {
        let number = *self.members.iter().find(|(_, member)| member.sequence.job.id == id)?.0;
        let made = self.run.map_or(0, |run| run.done_by(now));
        let Taken { mut held, decoding } = self.take(number)?;
        if decoding {
            intake.counters.output_tokens += made;
            held.produced += made;
        }
        self.settle(now);
        Some(held)
    }

    /// Everything in the batch, in order of admission, with what it produced by now. The batch is empty afterwards and
    /// remembers nothing.
    pub(super) fn clear(&mut self, now: Micros, intake: &mut Intake) -> Vec<Sequence> {
        let ids: Vec<u64> = self.members.values().map(|member| member.sequence.job.id).collect();
        let held = ids.into_iter().filter_map(|id| self.remove(now, id, intake)).collect();
        *self = Batch::new(intake.profile.prefix_block_tokens);
        held
    }

    /// Something changed for those who come next: the current step is the last of its run.
    pub(super) fn settle(&mut self, now: Micros) {
        match &mut self.run {
            Some(_) if self.members.is_empty() => self.run = None,
            Some(run) => run.cut(now),
            None => {}
        }
    }

    fn decoding(&self) -> u64 {
        (self.members.len() - self.prefilling.len()) as u64
    }

    fn end_run(&mut self, steps: u64, intake: &mut Intake) {
        let made = steps * self.decoding();
        self.steps += steps;
        self.own_kv += made;
        self.read_kv += made;
        intake.counters.output_tokens += made;
    }

    /// Counts the prompt tokens computed; whoever has all of them decodes from the next step on.
    fn join_decoding(&mut self) {
        while let Some(number) = self.prefilling.front().copied() {
            let Some(member) = self.members.get_mut(&number) else { return };
            member.prefill_left -= std::mem::take(&mut member.chunk);
            if member.prefill_left > 0 {
                // The budget ended here: those behind it got nothing.
                return;
            }
            self.prefilling.pop_front();
            self.decode(number);
        }
    }

    /// The prompt of a member is there: others who begin alike can share it.
    fn decode(&mut self, number: u64) {
        let Some(member) = self.members.get_mut(&number) else { return };
        let job = &member.sequence.job;
        let chain = self.prefixes.filled(&job.prefix, job.prompt_tokens);
        let shared = chain.get(member.blocks..).unwrap_or_default();
        self.prefixes.take(shared);
        self.own_kv = self.own_kv.saturating_sub(self.prefixes.tokens(shared.len()));
        member.blocks += shared.len();
        member.counted = self.steps;
        member.due = self.steps + member.sequence.tokens_to_event();
        self.read_kv += member.sequence.kv_tokens();
        self.due.push(Reverse((member.due, number)));
    }

    fn send_due(&mut self, at: Micros, intake: &mut Intake, sent: &mut Vec<Emission>) {
        let tokens_per_event = intake.profile.tokens_per_event();
        while let Some(&Reverse((step, number))) = self.due.peek()
            && step <= self.steps
        {
            self.due.pop();
            let Some(member) = self.members.get_mut(&number) else { continue };
            let tokens = self.steps - std::mem::replace(&mut member.counted, self.steps);
            sent.extend(member.sequence.produce(tokens, at, tokens_per_event));
            if !member.sequence.is_finished() {
                member.due = self.steps + member.sequence.tokens_to_event();
                self.due.push(Reverse((member.due, number)));
            } else if let Some(Taken { held, .. }) = self.take(number) {
                intake.complete(at, &held);
            }
        }
    }

    /// The youngest lose their place until the memory suffices. They go back to the head of the queue, where the
    /// oldest of them stands first, and will compute their prompt and what they produced again.
    fn preempt_overflow(&mut self, at: Micros, intake: &mut Intake) {
        while self.kv_tokens() > capacity(intake) {
            let Some(youngest) = self.members.last_key_value().map(|(number, _)| *number) else { break };
            let Some(Taken { held: mut sequence, .. }) = self.take(youngest) else { break };
            sequence.ready = at;
            intake.counters.preempted += 1;
            intake.waiting.push_front(sequence);
        }
    }

    fn admit(&mut self, at: Micros, intake: &mut Intake) {
        while let Some(mut sequence) = intake.pop_ready(at, |next, intake| self.fits(next, intake)) {
            sequence.admit(at);
            self.admitted += 1;
            let number = self.admitted;
            let chain = self.prefixes.filled(&sequence.job.prefix, sequence.job.prompt_tokens);
            let blocks = self.prefixes.find(chain).blocks;
            self.prefixes.take(chain.get(..blocks).unwrap_or_default());
            let shared = self.prefixes.tokens(blocks);
            if !sequence.job.prefix.is_empty() {
                sequence.cached_tokens = shared;
                intake.counters.looked_up_tokens += sequence.job.prompt_tokens;
                intake.counters.found_tokens += shared;
            }
            self.own_kv += sequence.kv_tokens() - shared;
            let prefill_left = sequence.uncomputed_tokens();
            self.members.insert(number, Member { sequence, prefill_left, chunk: 0, counted: 0, due: 0, blocks });
            if prefill_left > 0 {
                self.prefilling.push_back(number);
            } else {
                self.decode(number);
            }
        }
    }

    fn fits(&self, next: &Sequence, intake: &Intake) -> bool {
        if self.members.len() >= intake.places() {
            return false;
        }
        // With room for one token more for everyone: whoever is admitted into the last of the memory would be thrown
        // out by the next step.
        let headroom = self.members.len() as u64 + 1;
        let free = capacity(intake).saturating_sub(self.kv_tokens());
        let alone = self.members.is_empty();
        alone || next.kv_tokens() + headroom <= free || {
            let found = self.prefixes.find(self.prefixes.filled(&next.job.prefix, next.job.prompt_tokens));
            let in_use = self.prefixes.tokens(found.blocks - found.idle);
            next.kv_tokens() + headroom <= free + in_use
        }
    }

    /// Shares the prefill budget out in order of admission. With prompts to compute, one step; else all steps until
    /// the next event is due, or the memory is full, or someone who waits can be given a place.
    fn start_run(&mut self, at: Micros, intake: &mut Intake) -> Run {
        let mut budget = intake.profile.prefill_chunk_tokens.max(1);
        let mut prefilled = 0;
        for number in &self.prefilling {
            let Some(member) = self.members.get_mut(number).filter(|_| budget > 0) else { break };
            member.chunk = member.prefill_left.min(budget);
            budget -= member.chunk;
            prefilled += member.chunk;
        }
        self.prefills = prefilled > 0;
        let decoding = self.decoding();
        let service = &intake.profile.service;
        let decode_ms = service.step_base_ms
            + service.step_per_sequence_ms * decoding as f64
            + service.step_per_kv_token_ns * self.read_kv as f64 / 1e6;
        if self.prefills {
            let prefill_ms = prefilled as f64 / service.prefill_tokens_per_s * 1e3;
            return Run::new(at, 1, decode_ms.max(prefill_ms) * intake.jitter(1) / intake.speed, 0.0);
        }
        let growth_ms = service.step_per_kv_token_ns * decoding as f64 / 1e6;
        let to_event = self.due.peek().map_or(1, |Reverse((step, _))| step.saturating_sub(self.steps));
        let to_overflow = capacity(intake).saturating_sub(self.kv_tokens()) / decoding.max(1) + 1;
        let steps = to_event.min(to_overflow).max(1);
        let factor = intake.jitter(steps) / intake.speed;
        let mut run = Run::new(at, steps, decode_ms * factor, growth_ms * factor);
        if let Some(ready) = intake.next_ready().filter(|ready| *ready > at && *ready < run.ends())
            && intake.waiting.front().is_some_and(|next| self.fits(next, intake))
        {
            run.cut(ready);
        }
        run
    }

    /// Takes a member out, with what it produced by the last event.
    fn take(&mut self, number: u64) -> Option<Taken> {
        let Member { mut sequence, counted, blocks, .. } = self.members.remove(&number)?;
        let prefilling = self.prefilling.iter().rposition(|waiting| *waiting == number);
        if let Some(at) = prefilling {
            self.prefilling.remove(at);
        } else {
            sequence.produced += self.steps - counted;
            self.read_kv -= sequence.kv_tokens();
        }
        self.own_kv -= sequence.kv_tokens().saturating_sub(self.prefixes.tokens(blocks));
        let chain = self.prefixes.filled(&sequence.job.prefix, sequence.job.prompt_tokens);
        self.prefixes.release(chain.get(..blocks).unwrap_or_default());
        Some(Taken { held: sequence, decoding: prefilling.is_none() })
    }
}

/// A sequence that has lost its place.
struct Taken {
    held: Sequence,
    /// Whether its prompt was computed.
    decoding: bool,
}

fn capacity(intake: &Intake) -> u64 {
    intake.profile.service.kv_tokens.unwrap_or(u64::MAX)
}
