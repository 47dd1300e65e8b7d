// What one person prefers on this machine.

type Theme = 'dark' | 'light';
const THEME = 'pointsman-theme';
const system = matchMedia('(prefers-color-scheme: light)');

const kept = localStorage.getItem(THEME);
let theme = $state<Theme>(kept === 'dark' || kept === 'light' ? kept : system.matches ? 'light' : 'dark');
document.documentElement.dataset.theme = theme;

export const settings = {
  get theme() { return theme; },
  turn() {
    theme = theme === 'dark' ? 'light' : 'dark';
    document.documentElement.dataset.theme = theme;
    localStorage.setItem(THEME, theme);
  },
};

/** A colour of the theme, for what is drawn on a canvas. */
export function colour(name: string): string {
  void theme;
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const SHADES = 8;
let names = $state.raw<string[]>([]);

/** Classes in the order of the policy, so that each has the same colour on every page. */
export function order(classes: string[]) {
  const unknown = classes.filter((name) => name && !names.includes(name));
  if (unknown.length) names = [...names, ...unknown];
}

/** The number of a class's colour; of one that nobody has named yet, one that its letters choose. */
export function shade(name: string): number {
  const at = names.indexOf(name);
  return at >= 0 ? at % SHADES : [...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % SHADES;
}

/** Where a class stands in the policy. */
export function rank(name: string): number {
  const at = names.indexOf(name);
  return at >= 0 ? at : names.length;
}
