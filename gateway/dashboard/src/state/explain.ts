// An explanation of one decision, as the gateway gives it.

export interface Candidate {
  endpoint: string; pool: string; hardware: string; kind: string; availability: string; attempt: number | null;
  in_flight: number; slots: number; strain: number | null; home: boolean; room: boolean | null; meets_slo: boolean | null;
  score: number | null; tier: number; effective_usd: number | null; counts_because: string[];
  terms: { name: string; value: number }[];
  rejection: { code: string; figures: string; message: string } | null;
  estimate: { ttft_ms: number; itl_ms: number; total_ms: number; wait_ms: number; usd: number; joules: number; cached_tokens: number; grams_co2: number | null } | null;
}

interface Rule { name: string; place: number; when: string; reads: { field: string; value: string }[] }

export interface Explanation {
  verdict: string; policy: string; fleet: string; draw: string; refusal: { code: string; message: string; retry_in_ms: number | null } | null;
  class: { name: string; because: string; rule: Rule | null; target: number | null; priority: number; passed_over: Rule[] };
  route: { name: string; objective: string; place: number; spill: string | null; tiers: number; when: string | null; reads: Rule['reads']; passed_over: Rule[]; affinity: unknown } | null;
  plan: {
    attempts: { endpoint: string; pool: string; first_byte_ms: number }[]; total_ms: number | null; explored: unknown;
    hedge: { endpoint: string; after_ms: number } | null;
    hold: { pool: string; wait_ms: number; slack_ms: number; ahead: number; ahead_higher: number } | null;
  } | null;
  candidates: Candidate[];
  request: Record<string, unknown>;
  outcome: {
    attempts: { endpoint: string; status: number | null; ms: number; failure: string | null }[];
    not_retried: string | null; not_continued: string | null;
  } | null;
}
