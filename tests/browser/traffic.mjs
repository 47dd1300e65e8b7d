// Live, Requests, Trace.

import { axe, check, eventually, mishaps, query, same, test } from './stage.mjs';

export async function traffic({ open, proxy, trace }) {
  await test('live figures move, stand still while paused, and go on', async () => {
    const page = await open('/');
    const text = () => page.textContent('main');
    const first = await text();
    await eventually('it moves', async () => (await text()) !== first);
    await page.keyboard.press('Space');
    await page.getByText('paused').waitFor();
    await page.waitForTimeout(600); // what was asked for before has come
    const still = await text();
    await page.waitForTimeout(2_500);
    same(await text(), still, 'a paused page');
    await page.keyboard.press('Space');
    await eventually('it moves again', async () => (await text()) !== still);
    await page.context().close();
  });

  await test('columns of the tail stay where they are while rows come and go', async () => {
    const page = await open('/');
    const tail = page.getByRole('region', { name: 'Requests as they end' });
    await eventually('rows', async () => (await tail.locator('[data-row]').count()) > 5);
    const seen = async () => ({ first: await tail.locator('.when').first().textContent(), edges: await tail.locator('th').evaluateAll((heads) => heads.map((head) => head.getBoundingClientRect().left)) });
    const before = await seen();
    await eventually('other rows', async () => (await seen()).first !== before.first);
    await page.waitForTimeout(1_500);
    same((await seen()).edges, before.edges, 'where columns begin');
    await page.context().close();
  });

  await test('a chart tells its newest figures, and those under the pointer', async () => {
    const page = await open('/');
    const chart = page.getByRole('region', { name: 'Traffic', exact: true });
    const told = async () => (await chart.locator('.legend .at').textContent()).trim();
    await eventually('figures', async () => (await chart.locator('.legend b').allTextContents()).some((text) => /[1-9]/.test(text)));
    const newest = await told();
    await chart.locator('.u-over').hover({ position: { x: 20, y: 40 } });
    await eventually('an earlier time', async () => (await told()) < newest);
    const plot = await chart.locator('.u-over').elementHandle();
    await page.waitForTimeout(2_500); // ticks have come
    check((await told()) < newest, 'the crosshair stays');
    check(await plot.evaluate((node) => node.isConnected), 'the plot is not made anew');
    await page.context().close();
  });

  await test('a chart and the flow are tables, too', async () => {
    const page = await open('/');
    await page.getByRole('button', { name: /^view as table\s*: routing/ }).click();
    await page.getByRole('table', { name: 'Requests by class and endpoint' }).waitFor();
    await page.getByRole('button', { name: /^view as table\s*: Requests by class/ }).click();
    await page.getByRole('table', { name: /the last \d+ steps/ }).waitFor();
    await page.context().close();
  });

  await test('a filter is applied on the server, and a mistake is underlined where it is', async () => {
    const page = await open('/');
    await page.fill('#filter', 'class:realtime clas:x');
    await page.getByText('there is no field `clas`').waitFor();
    await page.getByText('did you mean `class`?').waitFor();
    same(await page.textContent('.under u'), 'clas', 'what is underlined');
    same(mishaps(page, [/400/]), [], 'mishaps'); // the browser itself notes that a question was refused
    await page.fill('#filter', 'class:realtime');
    await page.press('#filter', 'Enter');
    await eventually('only such requests', async () => {
      const classes = await page.$$eval('section[aria-label="Requests as they end"] tbody td:nth-child(2)', (cells) => cells.map((cell) => cell.textContent.trim()));
      return classes.length > 3 && classes.every((name) => name === 'realtime');
    });
    await page.reload();
    same([query(page).get('filter'), await page.inputValue('#filter')], ['class:realtime', 'class:realtime'], 'after a reload');
    await page.context().close();
  });

  await test('a number leads to the requests behind it', async () => {
    const page = await open('/');
    await page.click('.figures a[href*="slo%3Amiss"]');
    await page.waitForFunction(() => location.pathname === '/requests');
    same(query(page).get('filter'), 'slo:miss', 'the filter');
    await eventually('all of them missed', async () => {
      const verdicts = await page.$$eval('section[aria-label="Rows"] tbody td:nth-child(4)', (cells) => cells.map((cell) => cell.textContent));
      check(verdicts.length > 0 && verdicts.every((text) => text.includes('✗')), verdicts.join());
      return true;
    });
    await page.context().close();
  });

  await test('a box opens Contrast, stays through a reload, and filters with one click', async () => {
    const page = await open('/requests');
    const canvas = page.locator('canvas');
    await canvas.waitFor();
    const box = await canvas.boundingBox();
    await page.mouse.move(box.x + 70, box.y + 20);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width - 20, box.y + box.height * 0.45, { steps: 5 });
    await page.mouse.up();
    const contrast = page.getByRole('region', { name: 'Contrast' });
    await contrast.getByText(/selected, .* others/).waitFor();
    const select = query(page).get('select');
    check(/^at>=\d+ at<=\d+ ttft>=[\d.]+ms ttft<=[\d.]+ms$/.test(select), select);
    await page.reload();
    await contrast.waitFor();
    same(query(page).get('select'), select, 'the box after a reload');
    await page.locator('.scatter .box').waitFor();
    const link = contrast.getByRole('link', { name: /^only these/ }).first();
    const term = (await link.textContent()).replace(/^only these: /, '');
    await link.click();
    await eventually('the filter has the term', () => query(page).get('filter') === term);
    await page.context().close();
  });

  await test('a point tells what it is and opens its trace', async () => {
    const page = await open('/requests?filter=slo:miss');
    await page.keyboard.press('Space'); // what is pointed at stays
    const canvas = page.locator('canvas');
    await canvas.waitFor();
    const box = await canvas.boundingBox();
    const tip = page.locator('.scatter .tip');
    const found = await eventually('a point', async () => {
      for (let x = 60; x < box.width - 10; x += 9) {
        for (let y = 10; y < box.height - 30; y += 12) {
          await page.mouse.move(box.x + x, box.y + y);
          if (await tip.count()) return { x: box.x + x, y: box.y + y };
        }
      }
      return null;
    }, 30_000);
    check(/missed its promise/.test(await tip.textContent()), await tip.textContent());
    await page.mouse.click(found.x, found.y);
    await page.waitForFunction(() => location.pathname.startsWith('/trace/'));
    await page.locator('.chip.bad', { hasText: 'missed' }).waitFor();
    await page.context().close();
  });

  await test('rows are walked with keys into a trace and back, and pages go back in time', async () => {
    const page = await open('/requests');
    await page.locator('[data-row]').nth(3).waitFor();
    for (const key of ['j', 'j', 'j', 'k']) await page.keyboard.press(key);
    const href = await page.evaluate(() => document.activeElement.getAttribute('href'));
    same(href, await page.locator('[data-row] a[data-open]').nth(1).getAttribute('href'), 'the second row has the focus');
    await page.keyboard.press('Enter');
    await page.waitForFunction((href) => location.pathname === href, href);
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => location.pathname === '/requests');
    await page.getByRole('link', { name: 'older', exact: true }).click();
    await eventually('an older page', () => Number(query(page).get('before')) > 0);
    await page.context().close();
  });

  await test('a click anywhere in a row opens it, and its neighbours are those of the filter', async () => {
    const page = await open('/requests?filter=class:realtime');
    await page.locator('[data-row]').nth(5).locator('td').nth(7).click();
    await page.waitForFunction(() => location.pathname.startsWith('/trace/'));
    same(query(page).get('filter'), 'class:realtime', 'the filter');
    for (const key of [']', ']', '[']) {
      const before = page.url();
      await page.getByRole('link', { name: key === ']' ? 'older' : 'newer', exact: true }).waitFor();
      await page.keyboard.press(key);
      await page.waitForFunction((before) => location.href !== before, before);
      await page.locator('.chips .chip').first().filter({ hasText: 'realtime' }).waitFor();
    }
    await page.context().close();
  });

  await test('the filter box tells its language where it is empty', async () => {
    const page = await open('/requests');
    await page.keyboard.press('/');
    await page.getByText('is:retried', { exact: true }).waitFor();
    same(await axe(page), [], 'axe');
    await page.keyboard.type('x');
    same(await page.getByText('is:retried', { exact: true }).count(), 0, 'shown over what is written');
    await page.context().close();
  });

  await test('a trace shows its attempts, where the first token left, and why', async () => {
    const page = await open(`/trace/${trace}`);
    await page.getByRole('table', { name: 'Steps of the request' }).waitFor();
    check((await page.locator('.bar.attempt').count()) >= 2, 'both attempts');
    check((await page.locator('.bar.failed').count()) >= 1, 'the failed one is marked');
    check((await page.locator('.track .first').count()) > 0, 'the first token');
    await page.locator('.verdict').waitFor();
    await page.getByText(/^1\. .*, first byte within/).waitFor();
    await page.getByRole('cell', { name: '✗ failed' }).waitFor();
    await page.getByRole('cell', { name: '✓ answered' }).waitFor();
    check(!(await page.textContent('main')).includes('[object'), 'nothing is told as an object');
    check((await page.locator('table:has(caption:text("Candidates that could serve")) tbody tr').count()) >= 2, 'candidates');
    await page.getByRole('heading', { name: 'Rejected' }).waitFor();
    await page.getByText('does not serve the model').first().waitFor();
    await page.getByRole('tab', { name: 'Why' }).focus();
    await page.keyboard.press('ArrowRight');
    await eventually('the tab is in the address', () => query(page).get('tab') === 'attributes');
    await page.getByText('gen_ai.request.model').waitFor();
    await page.getByRole('tab', { name: 'Raw' }).click();
    await page.getByText('"trace_id"').waitFor();
    await page.keyboard.press(']');
    await page.waitForFunction((trace) => !location.pathname.includes(trace), trace);
    await page.context().close();
  });

  await test('a trace tells whether another policy would differ', async () => {
    const page = await open(`/trace/${trace}`);
    await page.getByText('Would another policy differ?').click();
    await page.waitForFunction(() => document.querySelector('#otherwise').value.includes('[class.realtime]'));
    await page.fill('#otherwise', 'name = "wafer-only"\n[[route]]\nname = "all"\npools = \'pool.hardware.kind == "wafer"\'\n');
    await page.getByRole('button', { name: 'Decide by this text' }).click();
    await page.locator('.answer .verdict').filter({ hasText: 'wafer/' }).waitFor();
    await page.fill('#otherwise', 'name = "x"\npools = 3\n');
    await page.getByRole('button', { name: 'Decide by this text' }).click();
    await page.getByRole('alert', { name: 'Mistakes' }).or(page.getByRole('list', { name: 'Mistakes' })).waitFor();
    same(mishaps(page, [/422/]), [], 'mishaps');
    await page.context().close();
  });

  await test('an unknown trace says so and where to look', async () => {
    const page = await open(`/trace/${'0'.repeat(31)}1`);
    await page.getByText('This trace is not here.').waitFor();
    same(mishaps(page, [/404/]), [], 'mishaps');
    await page.context().close();
  });

  await test('a lost connection is told, nothing is forgotten, and it is found again', async () => {
    const page = await open('/?filter=class%3Ainteractive');
    await page.getByText('● live').waitFor();
    const rows = await eventually('rows', async () => (await page.locator('[data-row]').count()) || null);
    proxy.cut();
    await page.getByText(/connection lost, trying again/).waitFor();
    check((await page.locator('[data-row]').count()) >= Math.min(rows, 5), 'what was there stays');
    await proxy.mend();
    await page.getByText('● live').waitFor();
    const before = await page.locator('.when').first().textContent();
    await eventually('it goes on', async () => (await page.locator('.when').first().textContent()) !== before);
    same(mishaps(page, [/ERR_|Failed to fetch/]), [], 'mishaps');
    await page.context().close();
  });
}
