// What the tests play on: a demo behind a proxy that can be cut, a receiver of traces that can fail, a browser that notes
// whatever goes wrong in it.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';

export const PAGES = ['/', '/requests', '/policies', '/backends', '/slo', '/setup'];
const AXE = readFileSync(new URL('./node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const WAIT_MS = 15_000;
let failed = 0;

/** One promise: told as `ok NAME` or `not ok NAME`. */
export async function test(name, act) {
  const began = Date.now();
  try {
    await act();
    console.log(`ok ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`not ok ${name}: ${String(error?.stack ?? error).split('\n').slice(0, 12).join('\n    ')}`);
  }
}

export function check(good, told) {
  if (!good) throw new Error(told);
}

export function same(seen, expected, what) {
  check(JSON.stringify(seen) === JSON.stringify(expected), `${what}: ${JSON.stringify(seen)}, expected ${JSON.stringify(expected)}`);
}

/** Asks until there is an answer; fails where there is none in time. */
export async function eventually(what, ask, limit = WAIT_MS) {
  const until = Date.now() + limit;
  let last;
  for (;;) {
    try {
      const found = await ask();
      if (found) return found;
    } catch (error) { last = error; }
    if (Date.now() > until) throw new Error(`not within ${limit} ms: ${what}${last ? ` (${last.message})` : ''}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export const result = () => failed;

/** A process of ours, ended with the tests; `told` waits for a pattern in what it says. */
export function start(program, args, env = {}) {
  const child = spawn(program, args, { env: { ...process.env, NO_COLOR: '1', ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (data) => { said += data; });
  const told = (pattern) => eventually(`${pattern} of ${said}`, () => pattern.exec(said)?.[1]);
  const stop = () => new Promise((resolve) => { child.on('exit', resolve); child.kill('SIGINT'); setTimeout(() => child.kill('SIGKILL'), 5_000).unref(); });
  return { told, stop };
}

/** A receiver of traces that answers with a status, or, at `null`, never. */
export async function receiver() {
  const state = { status: 200, traces: 0 };
  const server = http.createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      if (state.status === 200) state.traces += 1;
      if (state.status) response.writeHead(state.status, { 'content-type': 'application/x-protobuf' }).end();
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { state, url: `http://127.0.0.1:${server.address().port}`, stop: () => { server.closeAllConnections(); server.close(); } };
}

/** A way to a listener that can be cut and mended. */
export async function proxy(target) {
  const { hostname, port } = new URL(target);
  const sockets = new Set();
  const server = net.createServer((client) => {
    const machine = net.connect(Number(port), hostname);
    for (const socket of [client, machine]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => { sockets.delete(socket); client.destroy(); machine.destroy(); });
    }
    client.pipe(machine).pipe(client);
  });
  const listen = (at) => new Promise((resolve) => server.listen(at, '127.0.0.1', resolve));
  await listen(0);
  const own = server.address().port;
  const cut = () => { server.close(); sockets.forEach((socket) => socket.destroy()); };
  return { url: `http://127.0.0.1:${own}`, cut, mend: () => listen(own), stop: cut };
}

/** A folder that goes away with the tests. */
export function folder() {
  const made = mkdtempSync(path.join(tmpdir(), 'pointsman-browser-'));
  return { path: made, stop: () => rmSync(made, { recursive: true, force: true }) };
}

const mishapsOf = new WeakMap();

/** What went wrong on a page, but for what is expected to. */
export const mishaps = (page, expected = []) => mishapsOf.get(page).filter((one) => !expected.some((pattern) => pattern.test(one)));

/** A browser whose pages note errors on the console and requests to anybody else. */
export async function browser(base) {
  const running = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
  async function open(where, { theme = 'dark', width = 1440, height = 900, at = base } = {}) {
    const context = await running.newContext({ viewport: { width, height }, colorScheme: theme, permissions: ['clipboard-read', 'clipboard-write'] });
    const page = await context.newPage();
    const wrong = [];
    mishapsOf.set(page, wrong);
    page.setDefaultTimeout(WAIT_MS);
    page.on('pageerror', (error) => wrong.push(`${where}: ${error.message}`));
    page.on('console', (message) => { if (message.type() === 'error') wrong.push(`${where}: ${message.text()}`); });
    page.on('request', (request) => {
      const origin = new URL(request.url());
      if (origin.origin !== at && origin.protocol !== 'data:') wrong.push(`${where}: a request to ${request.url()}`);
    });
    await page.goto(at + where);
    await page.waitForSelector('h1');
    return page;
  }
  return { open, stop: () => running.close() };
}

/** What axe finds; it is evaluated, not loaded, so that the page's content security policy stays as it is. */
export async function axe(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 120)).join(' | ')}`);
}

/** Whether a page is wider than the window. */
export const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
export const query = (page) => new URL(page.url()).searchParams;
