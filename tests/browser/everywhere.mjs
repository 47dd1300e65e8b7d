// What holds of every page: both themes, a narrow screen, no outsider, nothing that axe finds, the keys.

import { PAGES, axe, check, eventually, mishaps, overflow, query, same, test } from './stage.mjs';

const name = (path) => ({ '/': 'live' })[path] ?? path.split('/')[1].split('?')[0];

export async function everywhere({ open, trace, shots }) {
  const paths = [...PAGES, `/trace/${trace}`, '/requests?select=slo%3Amiss'];
  const told = (path) => path.replace(trace, 'ID');

  const inTheme = (path, theme) => test(`${told(path)} in ${theme}: axe finds nothing, nothing goes wrong, nobody else is asked`, async () => {
    const page = await open(path, { theme });
    await page.waitForTimeout(1_500); // what comes by itself has come
    same(await axe(page), [], 'axe');
    check((await overflow(page)) <= 0, `wider than the window by ${await overflow(page)}`);
    const label = path.includes('select') ? 'contrast' : name(path);
    await page.screenshot({ path: `${shots}/${label}-${theme}.png`, fullPage: label !== 'live' && label !== 'requests' });
    same(mishaps(page), [], 'mishaps');
    await page.context().close();
  });

  const onPhone = (path) => test(`${told(path)} fits a phone`, async () => {
    const page = await open(path, { width: 390, height: 844 });
    await page.waitForTimeout(700);
    check((await overflow(page)) <= 0, `wider than the window by ${await overflow(page)}`);
    same(await axe(page), [], 'axe');
    await page.context().close();
  });

  // All that a page has to show, at once: they wait more than they work.
  for (const path of paths) await Promise.all([inTheme(path, 'dark'), inTheme(path, 'light'), onPhone(path)]);
  await test('keys go from page to page, help, theme and filter', async () => {
    const page = await open('/');
    for (const [key, path] of [['r', '/requests'], ['p', '/policies'], ['b', '/backends'], ['s', '/slo'], ['u', '/setup'], ['l', '/']]) {
      await page.keyboard.press('g');
      await page.keyboard.press(key);
      await page.waitForFunction((path) => location.pathname === path, path);
    }
    await page.keyboard.press('?');
    await page.waitForSelector('dialog[open]');
    same(await axe(page), [], 'axe in the help');
    await page.keyboard.press('Escape');
    check(!(await page.$('dialog[open]')), 'the help stays');
    const before = await page.evaluate(() => document.documentElement.dataset.theme);
    await page.keyboard.press('t');
    const after = await page.evaluate(() => document.documentElement.dataset.theme);
    check(before !== after, 'the theme stays');
    await page.reload();
    same(await page.evaluate(() => document.documentElement.dataset.theme), after, 'the theme after a reload');
    await page.waitForSelector('h1');
    await page.keyboard.press('/');
    await page.keyboard.type('class:interactive');
    await page.keyboard.press('Enter');
    await eventually('the filter is in the address', () => query(page).get('filter') === 'class:interactive');
    await page.keyboard.press('Escape');
    await page.keyboard.press('y');
    same(await page.evaluate(() => navigator.clipboard.readText()), page.url(), 'the link');
    await page.context().close();
  });
}
