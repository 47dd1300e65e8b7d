//! What a simulated machine is: its service model and the numbers around it that policies do not read.

use pointsman_policies::fleet::{HardwareKind, ServiceModel};
use pointsman_policies::power::idle_share;

pub use super::weather::Neighbours;
use crate::hardware::{self, Hardware};
use crate::lease::RateLimits;

/// Requests that may wait on a GPU server before it answers 503; assumed.
const GPU_QUEUE: usize = 1024;
/// Requests that may wait for a slot of a cloud endpoint before it answers 503; assumed.
const CLOUD_QUEUE: usize = 256;
/// Prompt tokens a GPU server computes in one step: vLLM's setting in the published table the model is checked on.
const GPU_PREFILL_CHUNK: u64 = 8192;
/// Prompt tokens a llama.cpp server computes in one step: its default micro-batch, recalled.
const CPU_PREFILL_CHUNK: u64 = 512;

/// Tokens in one block of the prefix cache: as in the Mooncake trace.
pub(super) const PREFIX_BLOCK_TOKENS: u64 = 512;

/// A simulated machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Decides how it behaves under load.
    pub kind: HardwareKind,
    /// How it serves.
    pub service: ServiceModel,
    /// The provider's limits; the default has none.
    pub limits: RateLimits,
    /// Prompt and answer together may be this long, tokens; `None` for as long as the KV memory allows.
    pub context_tokens: Option<u64>,
    /// Requests that may wait when all slots are taken; more are refused.
    pub max_waiting: usize,
    /// Prompt tokens computed in one step; only machines that batch read it.
    pub prefill_chunk_tokens: u64,
    /// Tokens in one block of the prefix cache; `None` without one. Only machines that batch have it.
    pub prefix_block_tokens: Option<u64>,
    /// A rare pause in streams; only machines that do not batch have it.
    pub tail: Option<Tail>,
    /// Other customers of the same machine, whom nobody here can see; only machines that do not batch have them.
    pub neighbours: Option<Neighbours>,
    /// What it draws while idle, as a part of its all-in power.
    pub idle_power_share: f64,
    /// How much of each stream is told.
    pub detail: Detail,
}

impl Profile {
    /// A machine of this kind without rate limits. The size of its queue and prefill chunk are of the kind; a wafer
    /// has the tail of the catalog's.
    pub fn new(kind: HardwareKind, service: ServiceModel) -> Profile {
        let (max_waiting, prefill_chunk_tokens) = match kind {
            HardwareKind::Gpu => (GPU_QUEUE, GPU_PREFILL_CHUNK),
            // A server that holds no queue: no free slot is a 503.
            HardwareKind::Cpu => (0, CPU_PREFILL_CHUNK),
            HardwareKind::Wafer | HardwareKind::Lpu | HardwareKind::Cloud => (CLOUD_QUEUE, u64::MAX),
        };
        let tail = match kind {
            HardwareKind::Wafer => hardware::find("cs3").and_then(Tail::of),
            _ => None,
        };
        Profile {
            kind,
            service,
            limits: RateLimits::default(),
            context_tokens: None,
            max_waiting,
            prefill_chunk_tokens,
            prefix_block_tokens: (kind == HardwareKind::Gpu).then_some(PREFIX_BLOCK_TOKENS),
            tail,
            neighbours: None,
            idle_power_share: idle_share(kind),
            detail: Detail::Events,
        }
    }

    /// A machine as the catalog has it, with its provider's limits.
    pub fn of(hardware: &Hardware) -> Profile {
        Profile {
            limits: hardware.rate_limits().unwrap_or_default(),
            tail: Tail::of(hardware),
            ..Profile::new(hardware.kind, hardware.service_model())
        }
    }

    /// Whether running sequences share steps, and so slow each other.
    pub fn batches(&self) -> bool {
        matches!(self.kind, HardwareKind::Gpu | HardwareKind::Cpu)
    }

    /// Tokens one event of a stream carries after the first; without end where only the ends are told.
    pub(super) fn tokens_per_event(&self) -> f64 {
        match self.detail {
            Detail::Events => self.service.tokens_per_event,
            Detail::Ends => f64::INFINITY,
        }
    }

    /// The longest prompt and answer together, tokens: the context or the KV memory, whichever is less.
    pub fn longest(&self) -> u64 {
        self.context_tokens.unwrap_or(u64::MAX).min(self.service.kv_tokens.unwrap_or(u64::MAX))
    }
}

/// How much of each stream a machine tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Every event, as a client reads it.
    #[default]
    Events,
    /// The first token and the last event, which carries all the others: all a simulation of a fleet reads. Time
    /// between them passes in long strides, with the same mean and variance.
    Ends,
}

/// A pause that an event of a stream meets now and then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail {
    /// How long, milliseconds.
    pub pause_ms: f64,
    /// How likely at each event.
    pub probability: f64,
}

impl Tail {
    fn of(hardware: &Hardware) -> Option<Tail> {
        Some(Tail { pause_ms: hardware.tail_ms?.value, probability: hardware.tail_probability?.value })
    }
}
