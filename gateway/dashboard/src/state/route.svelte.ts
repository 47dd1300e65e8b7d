// Where we are: page and state live in the address, so that a link shows the other what you see.

interface Place { path: string; query: URLSearchParams }

const here = (): Place => ({ path: location.pathname, query: new URLSearchParams(location.search) });

let place = $state.raw<Place>(here());

export const route = {
  get path() { return place.path; },
  get(name: string): string { return place.query.get(name) ?? ''; },
};

/** Goes to a page; `replace` leaves no step behind. */
export function go(to: string, replace = false) {
  if (to === location.pathname + location.search) return;
  if (replace) history.replaceState(null, '', to);
  else history.pushState(null, '', to);
  place = here();
}

/** Changes parts of the state of this page; empty ones go away. */
export function set(changes: Record<string, string>, replace = false) {
  go(link(location.pathname, { ...Object.fromEntries(new URLSearchParams(location.search)), ...changes }), replace);
}

/** A page with its state. */
export function link(path: string, state: Record<string, string | null | undefined> = {}): string {
  const wanted = Object.entries(state).filter((entry): entry is [string, string] => !!entry[1]);
  const text = new URLSearchParams(wanted).toString();
  return text ? `${path}?${text}` : path;
}

/** The requests behind a number. */
export const requests = (filter: string): string => link('/requests', { filter });

/** A value as a term of the filter language. */
export function term(field: string, value: string): string {
  return /^[\w.@:/-]+$/.test(value) ? `${field}:${value}` : `${field}:"${value.replaceAll('"', '')}"`;
}

window.addEventListener('popstate', () => { place = here(); });

// Links are real links; those to our own pages are followed without loading anew.
document.addEventListener('click', (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const anchor = (event.target as Element | null)?.closest?.('a');
  const href = anchor?.getAttribute('href');
  if (!anchor || !href || href.startsWith('#') || anchor.hasAttribute('download')) return;
  const to = new URL(href, location.href);
  if (to.origin !== location.origin || to.pathname.startsWith('/api/') || to.pathname === '/metrics') return;
  event.preventDefault();
  go(to.pathname + to.search);
  scrollTo(0, 0);
});
