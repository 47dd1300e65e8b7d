// Every promise of the dashboard, in a real browser: `node main.mjs PROGRAM SHOTS`.

import { mkdirSync, writeFileSync } from 'node:fs';
import { browser, eventually, folder, proxy, receiver, result, start } from './stage.mjs';
import { everywhere } from './everywhere.mjs';
import { operating } from './operating.mjs';
import { traffic } from './traffic.mjs';

const [program, shots] = process.argv.slice(2);
const TOKEN = 'a-token-of-some-length-7702';
const ends = [];
const own = (one) => { ends.push(one.stop); return one; };

async function guardedGateway() {
  const files = own(folder());
  const file = (name, text) => writeFileSync(`${files.path}/${name}`, text);
  file('pointsman.toml', 'listen = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\n[admin]\ntoken = { file = "token" }\n');
  file('token', TOKEN);
  file('portfolio.toml', '[pool.gpu]\nhardware = "h100"\nendpoints = ["http://127.0.0.1:1"]\n[pool.gpu.model."gpt-oss-120b"]\n');
  file('policy.toml', 'name = "p"\n');
  const gateway = own(start(program, ['serve', '--config', `${files.path}/pointsman.toml`]));
  return { url: `http://${await gateway.told(/admin[^\n]*?(127\.0\.0\.1:\d+)/)}`, token: TOKEN };
}

try {
  mkdirSync(shots, { recursive: true });
  const traces = own(await receiver());
  const files = own(folder());
  const demo = own(start(program, ['demo', '--folder', `${files.path}/demo`], { OTEL_EXPORTER_OTLP_ENDPOINT: traces.url }));
  const way = own(await proxy(await demo.told(/dashboard +(\S+)/)));
  const asked = async (filter) => (await (await fetch(`${way.url}/api/v1/requests?limit=1&filter=${encodeURIComponent(filter)}`)).json()).requests[0];
  const trace = await eventually('something of everything', async () => {
    const [missed, failedOver, disagreed] = [await asked('slo:miss'), await asked('attempts>1 is:detail outcome:answered stream:yes'), await asked('is:disagreed')];
    return missed && disagreed && failedOver?.trace_id;
  }, 30_000);
  const eyes = own(await browser(way.url));
  const stage = { ...eyes, proxy: way, receiver: traces, trace, shots, guarded: await guardedGateway() };
  await everywhere(stage);
  await traffic(stage);
  await operating(stage);
} catch (error) {
  console.log(`not ok the stage is set: ${error.stack}`);
  process.exitCode = 1;
} finally {
  for (const end of ends.reverse()) await end();
}
if (result()) process.exitCode = 1;
process.exit();
