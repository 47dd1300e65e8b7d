// The table of pages. To add one: a file in pages/, a line here; it has an h1 with tabindex -1.

import type { Component } from 'svelte';
import Live from './pages/Live.svelte';
import Requests from './pages/Requests.svelte';
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
];

const TRACE: Page = { path: '/trace', name: 'Trace', key: '', component: Trace, streams: false };

export function find(path: string): Page {
  if (path.startsWith('/trace/')) return TRACE;
  return PAGES.find((page) => page.path === path) ?? PAGES[0]!;
}
