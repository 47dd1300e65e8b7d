// The admin API, as it is asked: shapes are those of gateway/src/admin/API.md.

export type Slo = 'kept' | 'missed' | 'none';

export interface Diagnostic {
  severity: 'error' | 'warning' | string;
  code: string;
  message: string;
  help?: string | null;
  file: string;
  line: number;
  column: number;
  end_line: number;
  end_column: number;
}

export interface Req {
  seq: number; trace_id: string; unix_ms: number; class: string; route: string; policy: string; generation: number;
  canary: boolean; model: string; tenant: string; api: string; stream: boolean; pool: string; endpoint: string;
  hardware: string; outcome: string; code: string | null; status: number; attempts: number; hedged: boolean;
  continued: boolean; held: boolean; disagreed: boolean; queue_ms: number | null; ttft_ms: number | null;
  itl_ms: number | null; total_ms: number | null; input_tokens: number; cached_tokens: number; output_tokens: number;
  usd: number | null; joules: number | null; slo: Slo; slo_missed: string[]; detail: string | null;
}

export interface Tick {
  name: string; requests: number; errors: number; slo_kept: number; slo_missed: number; input_tokens: number;
  output_tokens: number; usd: number; joules: number; usd_all_gpu: number | null; ttft_p50_ms: number | null;
  ttft_p95_ms: number | null; ttft_p99_ms: number | null; itl_p50_ms: number | null; itl_p95_ms: number | null;
  itl_p99_ms: number | null;
}

export interface LiveTick {
  unix_s: number; policy: string; generation: number; all: Tick; classes: Tick[];
  flow: { class: string; endpoint: string; requests: number }[];
  backends: { endpoint: string; state: string; in_flight: number; slots: number }[];
  queue: { held: number };
}

export interface Mark { unix_ms: number; kind: string; text: string }
export type Column = (number | null)[];
export type Series = { name: string } & { [figure in Exclude<keyof Tick, 'name'>]: Column };
export interface Timeseries { step_s: number; unix_s: number[]; series: Series[]; marks: Mark[]; quantiles_within: number }

export interface RequestPage {
  requests: Req[]; next: number | null; matched: number; kept: number; capacity: number; seen: number;
  oldest_unix_ms: number | null; took_us: number;
}

export interface ScatterColumns {
  names: string[]; seq: number[]; unix_ms: number[]; class: number[]; ttft_ms: Column; total_ms: Column; slo: number[];
  matched: number;
}

export interface Contrast {
  selected: number; rest: number; took_us: number;
  values: { field: string; value: string; selected: number; rest: number; selected_share: number; rest_share: number;
    lift: number | null; score: number; filter: string }[];
}

/** A refusal of the API, in its words. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly help: string | null = null,
    readonly diagnostics: Diagnostic[] = [],
  ) {
    super(message);
  }
}

const TOKEN = 'pointsman-token';
const WHO = 'pointsman-who';

/** The admin token and the name changes are made under; both live as long as the tab. */
export const credentials = {
  get token() { return sessionStorage.getItem(TOKEN) ?? ''; },
  set token(value: string) { keep(TOKEN, value); },
  get who() { return sessionStorage.getItem(WHO) ?? ''; },
  set who(value: string) { keep(WHO, value); },
};

function keep(name: string, value: string) {
  if (value) sessionStorage.setItem(name, value);
  else sessionStorage.removeItem(name);
}

export type Query = Record<string, string | number | boolean | null | undefined>;

export function url(path: string, query: Query = {}): string {
  const wanted = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const text = new URLSearchParams(wanted.map(([name, value]) => [name, String(value)])).toString();
  return `/api/v1/${path}${text ? `?${text}` : ''}`;
}

/** Asks; a refusal or a lost connection is thrown as a Problem. */
export async function ask(path: string, query: Query = {}, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (credentials.token) headers.set('authorization', `Bearer ${credentials.token}`);
  let response: Response;
  try {
    response = await fetch(url(path, query), { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Problem(0, 'unreachable', 'the gateway does not answer', 'is it running? this is tried again');
  }
  if (!response.ok) throw await problem(response);
  return response;
}

async function problem(response: Response): Promise<Problem> {
  const body = await response.json().catch(() => null);
  const told = body?.error;
  if (!told) return new Problem(response.status, 'http', `the gateway answered ${response.status}`);
  return new Problem(response.status, told.code, told.message, told.help ?? null, told.diagnostics ?? []);
}

export async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  return (await ask(path, query, signal ? { signal } : {})).json();
}

/** A change: named after who makes it. */
export async function change<T>(method: 'POST' | 'PUT', path: string, query: Query, body: string, headers: Record<string, string> = {}): Promise<T> {
  const named = { 'x-pointsman-who': credentials.who || 'dashboard', ...headers };
  const response = await ask(path, query, { method, body, headers: named });
  const text = await response.text();
  return (text ? JSON.parse(text) : null) as T;
}
