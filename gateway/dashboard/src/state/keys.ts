// Keys work on every page; in a field, only Escape does.

import { go, route, link } from './route.svelte';
import { settings } from './settings.svelte';
import { live } from './live.svelte';

export interface Page { path: string; name: string; key: string }

/** What a page does on keys of its own. */
export type Own = Record<string, () => void>;
const own: Own[] = [];

/** Adds a page's keys until the returned function is called. */
export function onKeys(keys: Own): () => void {
  own.push(keys);
  return () => { own.splice(own.indexOf(keys), 1); };
}

export const HELP: [string, string][] = [
  ['/', 'filter'], ['j k', 'next and previous row'], ['enter', 'open the row'], ['esc', 'back, or out of the filter'],
  ['space', 'pause and go on'], ['[ ]', 'newer and older trace'], ['t', 'dark or light'], ['y', 'copy a link to this view'],
  ['?', 'this list'],
];

export function listen(pages: Page[], act: { help: () => void; copied: () => void }) {
  let after = '';
  document.addEventListener('keydown', (event) => {
    const target = event.target as HTMLElement;
    const inField = target.matches('input, select, textarea');
    if (event.metaKey || event.ctrlKey || event.altKey) return;
    if (event.key === 'Escape' && inField) return target.blur();
    if (inField || document.querySelector('dialog[open]')) return;
    if (after === 'g') {
      after = '';
      const page = pages.find((page) => page.key === event.key);
      if (page) { event.preventDefault(); go(link(page.path, { filter: page.path === '/requests' ? route.get('filter') : '' })); }
      return;
    }
    const mine = own.findLast((keys) => event.key in keys)?.[event.key];
    const act_ = mine ?? general(event.key, target);
    if (event.key === 'g') after = 'g';
    if (act_) { event.preventDefault(); act_(); }
  });

  function general(key: string, target: HTMLElement): (() => void) | undefined {
    switch (key) {
      case '/': return () => document.querySelector<HTMLInputElement>('#filter')?.focus();
      case 'j': return () => step(1);
      case 'k': return () => step(-1);
      case ' ': return target.matches('button, a, summary, [role=tab]') ? undefined : () => live.pause(!live.paused);
      case 't': return () => settings.turn();
      case 'y': return () => void navigator.clipboard?.writeText(location.href).then(act.copied);
      case '?': return act.help;
      case 'Escape': return () => history.back();
      default: return undefined;
    }
  }
}

/** Moves the focus to the link of the next row; Enter follows it then. */
function step(by: number) {
  const links = [...document.querySelectorAll<HTMLAnchorElement>('main [data-row] a[data-open]')];
  const at = links.indexOf(document.activeElement as HTMLAnchorElement);
  const next = links[at < 0 ? 0 : Math.min(Math.max(at + by, 0), links.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: 'nearest' });
}
