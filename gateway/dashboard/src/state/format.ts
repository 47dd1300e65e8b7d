// Numbers for people, each with its unit.

const NONE = '–';
type Maybe = number | null | undefined;

function digits(value: number, places: number): string {
  return value.toLocaleString('en-US', { minimumFractionDigits: places, maximumFractionDigits: places });
}

/** Three significant digits, as far as they are after the point. */
function short(value: number): string {
  const size = Math.abs(value);
  return digits(value, size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2);
}

export function count(value: Maybe): string {
  if (value == null) return NONE;
  if (Math.abs(value) >= 1e9) return `${short(value / 1e9)}G`;
  if (Math.abs(value) >= 1e6) return `${short(value / 1e6)}M`;
  if (Math.abs(value) >= 1e4) return `${short(value / 1e3)}k`;
  return Number.isInteger(value) ? digits(value, 0) : short(value);
}

export function ms(value: Maybe): string {
  if (value == null) return NONE;
  if (value >= 600_000) return `${short(value / 60_000)} min`;
  if (value >= 1_000) return `${short(value / 1_000)} s`;
  if (value >= 1 || value === 0) return `${short(value)} ms`;
  return `${short(value * 1_000)} µs`;
}

export function usd(value: Maybe): string {
  if (value == null) return NONE;
  if (value === 0) return '$0';
  const size = Math.abs(value);
  if (size >= 1_000) return `$${count(value)}`;
  if (size >= 1) return `$${digits(value, 2)}`;
  return `$${value.toLocaleString('en-US', { minimumSignificantDigits: 3, maximumSignificantDigits: 3 })}`;
}

/** In a unit that suits it, or the one that suits `like`, where two are compared. */
export function joules(value: Maybe, like: Maybe = value): string {
  if (value == null) return NONE;
  const size = like ?? value;
  if (size >= 3.6e6) return `${short(value / 3.6e6)} kWh`;
  if (size >= 1e6) return `${short(value / 1e6)} MJ`;
  if (size >= 1e3) return `${short(value / 1e3)} kJ`;
  return `${short(value)} J`;
}

export function share(value: Maybe): string {
  if (value == null) return NONE;
  const percent = value * 100;
  if (percent > 99 && percent < 100) return `${digits(Math.floor(percent * 100) / 100, 2)} %`;
  return `${digits(percent, percent >= 10 || percent === 0 ? 1 : 2)} %`;
}

export function plain(value: Maybe, unit = ''): string {
  return value == null ? NONE : `${short(value)}${unit && ` ${unit}`}`;
}

/** The time of day, to the millisecond. */
export function clock(unixMs: number, exact = false): string {
  const date = new Date(unixMs);
  const time = date.toLocaleTimeString('en-GB');
  return exact ? `${time}.${String(date.getMilliseconds()).padStart(3, '0')}` : time;
}

export function day(unixMs: number): string {
  return new Date(unixMs).toISOString().replace('T', ' ').slice(0, 19) + ' UTC';
}

export function ago(unixMs: number, now = Date.now()): string {
  const s = Math.max(0, Math.round((now - unixMs) / 1_000));
  if (s < 60) return `${s} s ago`;
  if (s < 3_600) return `${Math.round(s / 60)} min ago`;
  if (s < 86_400) return `${Math.round(s / 3_600)} h ago`;
  return `${Math.round(s / 86_400)} d ago`;
}

/** Of `pool/host:port` on one page, the shortest that tells endpoints apart. */
export function endpoint(name: string): string {
  return name.replaceAll('/127.0.0.1:', '/:').replaceAll('/localhost:', '/:');
}
