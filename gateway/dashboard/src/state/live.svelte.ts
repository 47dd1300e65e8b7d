// One stream for the tab: figures once a second, requests that match, events. Resumes where it broke off.

import { ask, Problem, type LiveTick, type Req } from './api';

export interface Happening { unix_ms: number; kind: string; text: string; endpoint?: string }
interface Hello { version: string; policy: string; generation: number; capacity: number; now_unix_ms: number }

const MOST_REQUESTS = 40;
const MOST_EVENTS = 30;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
/** Comment lines come every 15 s; longer silence is a connection that died without a word. */
const SILENCE_MS = 25_000;

type State = 'connecting' | 'open' | 'lost' | 'refused';

class Live {
  state = $state<State>('connecting');
  problem = $state.raw<Problem | null>(null);
  retryAt = $state(0);
  hello = $state.raw<Hello | null>(null);
  tick = $state.raw<LiveTick | null>(null);
  requests = $state.raw<Req[]>([]);
  events = $state.raw<Happening[]>([]);
  leftOut = $state(0);
  paused = $state(false);

  #filter = '';
  #last = '';
  #abort: AbortController | null = null;
  #listeners = new Set<(tick: LiveTick) => void>();
  // What came and is not shown yet: nothing moves while paused.
  #waiting: Req[] = [];
  #happened: Happening[] = [];
  #missing = 0;
  #wake: (() => void) | null = null;

  /** Hears every tick while not paused. */
  onTick(listener: (tick: LiveTick) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Begins, or begins anew with another filter. */
  start(filter: string) {
    if (this.#abort && filter === this.#filter) return;
    this.#filter = filter;
    this.#last = '';
    [this.requests, this.#waiting, this.leftOut, this.#missing] = [[], [], 0, 0];
    this.#abort?.abort();
    this.#abort = new AbortController();
    void this.#run(this.#abort.signal);
  }

  /** Tries at once, such as with another token. */
  again() {
    this.#wake?.();
    if (this.state === 'refused') {
      this.#abort?.abort();
      this.#abort = new AbortController();
      void this.#run(this.#abort.signal);
    }
  }

  pause(paused: boolean) {
    this.paused = paused;
    if (!paused) this.#show();
  }

  async #run(signal: AbortSignal) {
    let wait = FIRST_WAIT_MS;
    while (!signal.aborted) {
      try {
        const headers: Record<string, string> = this.#last ? { 'last-event-id': this.#last } : {};
        const response = await ask('stream', { filter: this.#filter }, { headers, signal });
        this.state = 'open';
        this.problem = null;
        wait = FIRST_WAIT_MS;
        await this.#read(response, signal);
      } catch (error) {
        if (signal.aborted) return;
        this.problem = error instanceof Problem ? error : null;
        if (error instanceof Problem && error.status >= 400 && error.status < 500) {
          this.state = 'refused';
          return;
        }
      }
      if (signal.aborted) return;
      this.state = 'lost';
      this.retryAt = Date.now() + wait;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, wait);
        this.#wake = () => { clearTimeout(timer); resolve(); };
      });
      this.#wake = null;
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    }
  }

  async #read(response: Response, signal: AbortSignal) {
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = '';
    for (;;) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const silence = new Promise<never>((_, reject) => { timer = setTimeout(() => reject(new Error('silence')), SILENCE_MS); });
      const { done, value } = await Promise.race([reader.read(), silence]).finally(() => clearTimeout(timer));
      if (done || signal.aborted) return;
      buffer += value;
      const blocks = buffer.split('\n\n');
      buffer = blocks.pop() ?? '';
      for (const block of blocks) this.#take(block);
      if (!this.paused) this.#show();
    }
  }

  #take(block: string) {
    let event = 'message';
    let data = '';
    for (const line of block.split('\n')) {
      if (line.startsWith('id: ')) this.#last = line.slice(4);
      else if (line.startsWith('event: ')) event = line.slice(7);
      else if (line.startsWith('data: ')) data += line.slice(6);
    }
    if (!data) return;
    const value = JSON.parse(data);
    if (event === 'snapshot') this.hello = value;
    else if (event === 'request') this.#waiting = [value, ...this.#waiting].slice(0, MOST_REQUESTS);
    else if (event === 'event') this.#happened = [value, ...this.#happened].slice(0, MOST_EVENTS);
    else if (event === 'gap') this.#missing += value.requests;
    else if (event === 'tick' && !this.paused) {
      this.tick = value;
      for (const listener of this.#listeners) listener(value);
    }
  }

  #show() {
    if (this.#happened.length) this.events = [...this.#happened, ...this.events].slice(0, MOST_EVENTS);
    if (this.#missing) this.leftOut += this.#missing;
    if (this.#waiting.length) this.requests = [...this.#waiting, ...this.requests].slice(0, MOST_REQUESTS);
    [this.#waiting, this.#happened, this.#missing] = [[], [], 0];
  }
}

export const live = new Live();
