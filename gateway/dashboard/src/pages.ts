// The table of pages. To add one: a file in pages/, a line here; it has an h1 with tabindex -1.

import type { Component } from 'svelte';
import Backends from './pages/Backends.svelte';
import Live from './pages/Live.svelte';
import Policies from './pages/Policies.svelte';
import Requests from './pages/Requests.svelte';
import Setup from './pages/Setup.svelte';
import Slo from './pages/Slo.svelte';
import Trace from './pages/Trace.svelte';

export interface Page {
  path: string;
  name: string;
  /** After `g`. */
  key: string;
  component: Component;
  /** Whether it shows requests as they end, filtered. */
  streams: boolean;
}

export const PAGES: Page[] = [
  { path: '/', name: 'Live', key: 'l', component: Live, streams: true },
  { path: '/requests', name: 'Requests', key: 'r', component: Requests, streams: true },
  { path: '/policies', name: 'Policies', key: 'p', component: Policies, streams: false },
  { path: '/backends', name: 'Backends', key: 'b', component: Backends, streams: false },
  { path: '/slo', name: 'SLO & cost', key: 's', component: Slo, streams: false },
  { path: '/setup', name: 'Setup', key: 'u', component: Setup, streams: false },
];

const TRACE: Page = { path: '/trace', name: 'Trace', key: '', component: Trace, streams: false };

export function find(path: string): Page {
  if (path.startsWith('/trace/')) return TRACE;
  return PAGES.find((page) => page.path === path) ?? PAGES[0]!;
}
