// Policies, Backends, SLO & cost, Setup; the token; a gateway without traffic.

import { check, eventually, mishaps, query, same, test } from './stage.mjs';

export async function operating({ open, receiver, guarded }) {
  await test('an edit: mistakes at their place, tried on the past, kept through a reload, in force, rolled back', async () => {
    const page = await open('/policies');
    const area = page.getByRole('textbox', { name: 'Policy text', exact: true });
    await eventually('the text in force', async () => (await area.inputValue()).includes('[class.realtime]'));
    const text = await area.inputValue();
    await area.fill(text.replace('"wafer"', '"waffer"'));
    await page.getByRole('button', { name: 'Check' }).click();
    await page.getByText('there is no hardware kind `waffer`').waitFor();
    same(await page.locator('li.error u').first().textContent(), '"waffer"', 'what is underlined');
    await page.getByRole('button', { name: /^\d+:\d+$/ }).first().click();
    same(await page.evaluate(() => { const area = document.activeElement; return area.value.slice(area.selectionStart, area.selectionEnd); }), '"waffer"', 'where the place leads');

    const edited = text.replace('ttft_ms = 1000', 'ttft_ms = 900');
    await area.fill(edited);
    await page.getByRole('button', { name: 'Check' }).click();
    await page.getByText('class.interactive.ttft_ms').first().waitFor();
    await page.getByRole('button', { name: 'Try on the last decisions' }).click();
    await page.getByText(/Tried on the last \d+ decisions/).waitFor();
    await page.reload();
    await eventually('the edit is still there', async () => (await area.inputValue()) === edited);
    await page.getByLabel('as', { exact: true }).fill('ada');
    await page.getByRole('button', { name: 'Put in force' }).click();
    await page.getByText(/is in force: class\.interactive\.ttft_ms 1000 → 900/).waitFor();
    await page.getByRole('row', { name: /ada, .*in-force/ }).waitFor();

    await page.locator('[data-row]').nth(1).getByRole('link').click();
    await page.getByRole('button', { name: 'Roll back to this' }).click();
    await page.getByText(/is in force again, as a new generation/).waitFor();
    same(mishaps(page), [], 'mishaps');
    await page.context().close();
  });

  await test('a candidate goes into the shadow, is compared, and is promoted', async () => {
    const page = await open('/policies');
    const area = page.getByRole('textbox', { name: 'Policy text', exact: true });
    await eventually('the text in force', async () => (await area.inputValue()).includes('[class.realtime]'));
    const trial = page.getByRole('region', { name: 'Candidate on trial' });
    if (await trial.getByRole('button', { name: 'Stop' }).isVisible()) {
      await trial.getByRole('button', { name: 'Stop' }).click();
      await trial.getByText('No candidate is tried.').waitFor();
      await page.reload();
      await eventually('the text without it', async () => !(await area.inputValue()).includes('[shadow]'));
    }
    const name = `by-hand-${Date.now() % 100_000}`;
    await area.fill((await area.inputValue()).replace('name = "balanced"', `name = "${name}"`).replace('objective = "cheapest-that-meets-slo"', 'objective = "fastest"'));
    await page.getByRole('button', { name: 'Try in the shadow' }).click();
    await page.getByText('It decides in the shadow now').waitFor();
    await trial.getByRole('heading', { name: new RegExp(`In the shadow: ${name}`) }).waitFor();
    await eventually('requests are compared', async () => Number(/([\d,]+) compared/.exec(await trial.textContent())?.[1].replace(',', '') ?? 0) > 3);
    await trial.getByRole('button', { name: 'Promote' }).click();
    await page.getByText('The candidate is in force.').waitFor();
    await page.getByRole('link', { name: new RegExp(`^${name}@\\d+$`) }).first().waitFor();
    same(mishaps(page), [], 'mishaps');
    await page.context().close();
  });

  await test('who edits what somebody else has replaced overwrites nothing', async () => {
    const [one, other] = [await open('/policies'), await open('/policies')];
    const area = (page) => page.getByRole('textbox', { name: 'Policy text', exact: true });
    for (const [page, ms] of [[one, 910], [other, 920]]) {
      await eventually('the text', async () => (await area(page).inputValue()).includes('[class.interactive]'));
      await area(page).fill((await area(page).inputValue()).replace(/(\[class\.interactive\][^\n]*\n)ttft_ms = \d+/, `$1ttft_ms = ${ms}`));
    }
    await one.getByRole('button', { name: 'Put in force' }).click();
    await one.getByText(/is in force: /).waitFor();
    await other.getByRole('button', { name: 'Put in force' }).click();
    await other.getByText('Another policy has come into force since you began.').waitFor();
    check((await area(other).inputValue()).includes('ttft_ms = 920'), 'the text is still there');
    await other.getByRole('button', { name: /^Compare with/ }).click();
    await other.locator('section[aria-label="Policy text"] li.changed').filter({ hasText: 'class.interactive.ttft_ms' }).filter({ hasText: '910' }).waitFor();
    await other.getByRole('button', { name: 'Put in force' }).click();
    await other.getByText(/is in force: .*910 → 920/).waitFor();
    same([...mishaps(one), ...mishaps(other, [/412/])], [], 'mishaps');
    await one.context().close();
    await other.context().close();
  });

  await test('an endpoint is drained and given back', async () => {
    const page = await open('/backends');
    const row = page.getByRole('row').filter({ hasText: 'wafer/' });
    await row.getByRole('button', { name: /^drain/ }).click();
    await row.getByText(/drained by/).waitFor();
    await page.getByText(/gets nothing new; \d+ still on their way there, \d+ in service/).waitFor();
    await row.getByRole('link', { name: /^wafer/ }).click();
    const reason = page.getByRole('region', { name: 'Why rejected' }).getByRole('row').filter({ hasText: 'draining' });
    const trace = await reason.getByRole('link', { name: 'the newest' }).getAttribute('href');
    const told = await (await fetch(new URL(`/api/v1/traces/${trace.split('/').at(-1)}`, page.url()))).json();
    check(told.request.endpoint && !told.request.endpoint.startsWith('wafer/'), `another served it: ${told.request.endpoint}`);
    await row.getByRole('button', { name: /^give back/ }).click();
    await row.getByText('ready').waitFor();
    const changes = page.getByRole('region', { name: 'Why rejected' });
    await changes.locator('summary').click();
    await changes.getByRole('cell', { name: 'draining' }).first().waitFor();
    await page.getByRole('region', { name: 'Learned against believed' }).getByText(/TTFT is off by \d/).waitFor();
    await page.getByRole('link', { name: /^gpu-b/ }).first().click();
    await page.getByRole('heading', { name: /^gpu-b.*learned against the catalog/ }).waitFor();
    check(query(page).get('endpoint').startsWith('gpu-b/'), 'the endpoint is in the address');
    same(mishaps(page), [], 'mishaps');
    await page.context().close();
  });

  await test('who drains the last endpoint of a model is asked whether that is meant', async () => {
    const page = await open('/backends');
    const rows = page.getByRole('region', { name: 'Endpoints' }).locator('[data-row]').filter({ hasText: 'gpu-a/' });
    await rows.nth(1).waitFor();
    const cpu = page.getByRole('region', { name: 'Endpoints' }).locator('[data-row]').filter({ hasText: 'cpu/' });
    for (const row of await rows.all()) {
      await row.getByRole('button', { name: /^drain/ }).click();
      await row.getByText(/drained by/).waitFor();
    }
    await cpu.getByRole('button', { name: /^drain/ }).click();
    await page.getByText('No other endpoint in service has').waitFor();
    await page.getByRole('button', { name: 'leave it' }).click();
    check(!(await cpu.getByText(/drained by/).isVisible()), 'it is left in service');
    for (const row of await rows.all()) {
      await row.getByRole('button', { name: /^give back/ }).click();
      await row.getByText('ready').waitFor();
    }
    same(mishaps(page), [], 'mishaps');
    await page.context().close();
  });

  await test('promises, burn and costs are shown by class, and lead to requests', async () => {
    const page = await open('/slo');
    for (const name of ['realtime', 'interactive', 'standard', 'batch']) await page.getByRole('region', { name: 'Promises', exact: true }).getByRole('row').filter({ hasText: name }).waitFor();
    await page.getByRole('region', { name: 'By tenant' }).getByRole('row').filter({ hasText: 'acme' }).waitFor();
    await page.getByText(/all on GPU: \$/).waitFor();
    const parts = page.getByRole('region', { name: 'Promises', exact: true }).getByRole('row');
    await parts.filter({ hasText: 'each token after within 10 ms' }).waitFor();
    const missed = parts.filter({ hasText: 'first token within 300 ms' }).getByRole('link');
    same(new URL(await missed.getAttribute('href'), page.url()).searchParams.get('filter'), 'class:realtime slo:ttft', 'what is behind a part');
    await page.getByRole('region', { name: 'Promises missed' }).getByRole('button', { name: /^view as table/ }).click();
    await page.getByRole('region', { name: 'Promises missed' }).getByRole('columnheader', { name: 'interactive' }).waitFor();
    await page.getByRole('group', { name: 'Span of the charts' }).getByRole('button', { name: '10m' }).click();
    same(query(page).get('window'), '10m', 'the span is in the address');
    await page.getByRole('region', { name: 'By class' }).getByRole('row').filter({ hasText: 'realtime' }).getByRole('link').click();
    await page.waitForFunction(() => location.pathname === '/requests');
    same(query(page).get('filter'), 'class:realtime', 'the filter');
    await page.context().close();
  });

  await test('setup tells what is wrong with a receiver, and a test trace whether it is right again', async () => {
    const page = await open('/setup');
    const traces = page.getByRole('region', { name: 'Traces' });
    const send = traces.getByRole('button', { name: 'Send a test trace' });
    receiver.state.status = 404;
    await traces.locator('.chip').filter({ hasText: 'failing' }).waitFor();
    await traces.getByText(/`\/v1\/traces` is put behind `otlp_endpoint`/).first().waitFor();
    await send.click();
    await traces.getByText(/It did not arrive/).waitFor();
    receiver.state.status = 200;
    await send.click();
    await traces.getByText(/It arrived in/).waitFor();
    await traces.locator('.chip').filter({ hasText: /^ok$/ }).waitFor();
    await page.getByRole('button', { name: /^copy\s*: the scrape configuration/ }).click();
    check((await page.evaluate(() => navigator.clipboard.readText())).includes(new URL(page.url()).host), 'the address of this gateway is copied');
    same(mishaps(page), [], 'mishaps');
    await page.context().close();
  });

  await test('with a token the page asks for it, refuses a wrong one, and says what to do without traffic', async () => {
    const page = await open('/', { at: guarded.url });
    await page.getByRole('heading', { name: 'This gateway asks for its admin token' }).waitFor();
    await page.fill('#token', 'not-the-token-of-this-one');
    await page.getByRole('button', { name: 'Enter' }).click();
    await page.getByText('the token is wrong').waitFor();
    await page.fill('#token', guarded.token);
    await page.getByRole('button', { name: 'Enter' }).click();
    await page.getByText('No request in the last minute.').waitFor();
    await page.getByText(/curl http/).waitFor();
    same(mishaps(page, [/401/]), [], 'mishaps');
    await page.context().close();
  });
}
