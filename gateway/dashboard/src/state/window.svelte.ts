// Figures of a span of time, kept up: by the stream where a step is a second, else asked for again.

import { get, type LiveTick, type Series, type Tick, type Timeseries } from './api';
import { live } from './live.svelte';

const FIGURES: Exclude<keyof Tick, 'name'>[] = [
  'requests', 'errors', 'slo_kept', 'slo_missed', 'input_tokens', 'output_tokens', 'usd', 'joules', 'usd_all_gpu',
  'ttft_p50_ms', 'ttft_p95_ms', 'ttft_p99_ms', 'itl_p50_ms', 'itl_p95_ms', 'itl_p99_ms',
];

export const WINDOWS = [
  { name: '10m', window_s: 600, step_s: 1 },
  { name: '2h', window_s: 7_200, step_s: 10 },
  { name: '3d', window_s: 259_200, step_s: 300 },
];

const LEAST_STEPS = 60;

/** Without what lies before the first request: a gateway that was just started has more to show than a line at nought. */
function begun(data: Timeseries): Timeseries {
  const steps = data.unix_s.length;
  const first = Math.min(...data.series.map((one) => one.requests.findIndex((value) => !!value)).map((at) => (at < 0 ? steps : at)), steps);
  const cut = Math.max(0, Math.min(first - 2, steps - LEAST_STEPS));
  if (!cut) return data;
  const series = data.series.map((one) => ({ name: one.name, ...Object.fromEntries(FIGURES.map((figure) => [figure, one[figure].slice(cut)])) }) as Series);
  return { ...data, unix_s: data.unix_s.slice(cut), series };
}

export class Window {
  data = $state.raw<Timeseries | null>(null);
  problem = $state.raw<unknown>(null);
  #stop: (() => void) | null = null;

  constructor(readonly by: 'all' | 'class' | 'pool' | 'endpoint') {}

  /** Keeps up with a window until the returned function is called. */
  follow(name: string): () => void {
    this.#stop?.();
    const { window_s, step_s } = WINDOWS.find((one) => one.name === name) ?? WINDOWS[0]!;
    const controller = new AbortController();
    const load = async () => {
      try {
        this.data = begun(await get<Timeseries>('timeseries', { by: this.by, window_s, step_s }, controller.signal));
        this.problem = null;
      } catch (error) {
        if (!controller.signal.aborted) this.problem = error;
      }
    };
    void load();
    const again = setInterval(() => { if (!live.paused) void load(); }, Math.max(step_s, 10) * 1_000);
    const off = step_s === 1 ? live.onTick((tick) => this.#append(tick, window_s)) : () => {};
    this.#stop = () => { clearInterval(again); off(); controller.abort(); };
    return this.#stop;
  }

  #append(tick: LiveTick, most: number) {
    const { data } = this;
    if (!data || (data.unix_s.at(-1) ?? 0) >= tick.unix_s) return;
    const ticks = this.by === 'all' ? [tick.all] : tick.classes;
    if (this.by !== 'all' && this.by !== 'class') return;
    const unix_s = [...data.unix_s, tick.unix_s].slice(-most);
    const names = [...new Set([...data.series.map((one) => one.name), ...ticks.map((one) => one.name)])];
    const series = names.map((name) => {
      const [before, now] = [data.series.find((one) => one.name === name), ticks.find((one) => one.name === name)];
      const columns = FIGURES.map((figure) => {
        const past = before?.[figure] ?? new Array(data.unix_s.length).fill(null);
        return [figure, [...past, now?.[figure] ?? (figure.endsWith('_ms') ? null : 0)].slice(-most)];
      });
      return { name, ...Object.fromEntries(columns) } as Series;
    });
    this.data = { ...data, unix_s, series };
  }
}
