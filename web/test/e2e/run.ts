// Looks at the built page in a real browser against the mock: each state in both themes, accessibility by axe, strict
// CSP, no console errors, the keyboard, one stream for many tabs, and the size budget. Pictures go to $SHOTS if set.

import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { startMock, type Mock } from '../../mock/server.ts';

const BUDGET_GZIP_BYTES = 90_000;
const AXE = readFileSync('node_modules/axe-core/axe.min.js', 'utf8');
const dist = join(process.cwd(), 'dist');
const shots = process.env['SHOTS'];
let passed = 0;
let failed = 0;

async function fact(name: string, check: () => Promise<void> | void): Promise<void> {
  try {
    await check();
    passed += 1;
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n     ${error instanceof Error ? error.message : String(error)}`);
  }
}

function expect(seen: unknown, wanted: unknown, what: string): void {
  if (JSON.stringify(seen) !== JSON.stringify(wanted)) {
    throw new Error(`${what}: expected ${JSON.stringify(wanted)}, saw ${JSON.stringify(seen)}`);
  }
}

async function open(context: BrowserContext, url: string): Promise<{ page: Page; errors: string[] }> {
  const page = await context.newPage();
  const errors: string[] = [];
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(error.message));
  await page.goto(url);
  return { page, errors };
}

async function axe(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    const found = await (globalThis as unknown as { axe: { run: () => Promise<{ violations: { id: string; nodes: { target: string[] }[] }[] }> } }).axe.run();
    return found.violations.map((each) => `${each.id}: ${each.nodes.map((node) => node.target.join(' ')).join(', ')}`);
  });
  return violations;
}

async function states(browser: Browser, mock: Mock): Promise<void> {
  const wanted: [string, string][] = [
    ['healthy', 'All 3 zones are healthy.'],
    ['cut', 'edge is partitioned'],
    ['autonomous', 'cut off from the global control plane'],
    ['empty', 'No zone has been created yet.'],
  ];
  for (const scheme of ['light', 'dark'] as const) {
    for (const [name, sentence] of wanted) {
      await fact(`${name}, ${scheme}: the sentence stands first, axe finds nothing, the console is quiet`, async () => {
        mock.show(name);
        // axe is injected as a script, which the page's own policy forbids; the policy is checked by the other facts.
        const context = await browser.newContext({ colorScheme: scheme, viewport: { width: 1440, height: 900 }, bypassCSP: true });
        const { page, errors } = await open(context, mock.url);
        await page.getByRole('heading', { level: 1 }).getByText(sentence).waitFor({ timeout: 10_000 });
        if (shots !== undefined) await page.screenshot({ path: join(shots, `${name}-${scheme}.png`) });
        expect(await axe(page), [], 'axe');
        if (name === 'cut') {
          await page.goto(`${mock.url}/?view=table&zone=edge`);
          await page.getByRole('table').waitFor();
          if (shots !== undefined) await page.screenshot({ path: join(shots, `${name}-table-${scheme}.png`) });
          expect(await axe(page), [], 'axe on the table');
        }
        expect(errors, [], 'console');
        await context.close();
      });
    }
  }
}

async function behaviour(browser: Browser, mock: Mock): Promise<void> {
  await fact('the strict content security policy breaks nothing', async () => {
    mock.show('cut');
    const context = await browser.newContext();
    const { page, errors } = await open(context, mock.url);
    await page.getByRole('button', { name: /^edge .*partitioned/ }).waitFor();
    expect(errors, [], 'console');
    await context.close();
  });

  await fact('a change arrives without a reload', async () => {
    mock.show('healthy');
    const context = await browser.newContext();
    const { page } = await open(context, mock.url);
    await page.getByText('All 3 zones are healthy.').waitFor();
    mock.show('cut');
    await page.getByRole('heading', { level: 1 }).getByText('edge is partitioned').waitFor({ timeout: 3_000 });
    await context.close();
  });

  await fact('a silent stream becomes the past, then unknown, and nothing stays green', async () => {
    mock.show('healthy');
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
    const page = await context.newPage();
    await page.clock.install();
    await page.goto(mock.url);
    await page.getByText('All 3 zones are healthy.').waitFor();
    mock.show('silent');
    await page.clock.runFor(14_000);
    await page.getByText('You are looking at the past.').waitFor();
    await page.clock.runFor(20_000);
    await page.getByRole('heading', { level: 1 }).getByText('Nothing is known').waitFor();
    await page.getByText('3 unknown').waitFor();
    expect(await page.locator('.zone.healthy').count(), 0, 'green zones');
    if (shots !== undefined) await page.screenshot({ path: join(shots, 'stale-light.png') });
    await context.close();
  });

  await fact('the keyboard walks the map and selects', async () => {
    mock.show('cut');
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
    const { page } = await open(context, mock.url);
    await page.locator('#zone-edge').focus();
    const before = await page.evaluate(() => document.activeElement?.id);
    await page.keyboard.press('ArrowDown');
    const after = await page.evaluate(() => document.activeElement?.id);
    if (before === after) throw new Error(`ArrowDown stays at ${before}`);
    await page.keyboard.press('Enter');
    expect(new URL(page.url()).searchParams.get('zone'), after?.replace('zone-', ''), 'zone in the address');
    await context.close();
  });

  await fact('nine tabs share one stream', async () => {
    mock.show('healthy');
    const context = await browser.newContext();
    const others = mock.streams();
    const pages = await Promise.all(Array.from({ length: 9 }, () => open(context, mock.url)));
    for (const { page } of pages) await page.getByText('All 3 zones are healthy.').waitFor({ timeout: 20_000 });
    expect(mock.streams() - others, 1, 'streams');
    await context.close();
  });

  await fact('without a session the page asks for the token and says when it is wrong', async () => {
    mock.show('login');
    const context = await browser.newContext();
    const { page } = await open(context, mock.url);
    await page.getByLabel('Token').fill('wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('The token is not valid').waitFor();
    await context.close();
  });
}

const mock = await startMock(0, dist);
const browser = await chromium.launch({
  executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
  await states(browser, mock);
  await behaviour(browser, mock);
  await fact(`the first load fits into ${BUDGET_GZIP_BYTES / 1000} kB`, () => {
    const files = [join(dist, 'index.html'), ...readdirSync(join(dist, 'assets')).map((name) => join(dist, 'assets', name))];
    const bytes = files.reduce((sum, file) => sum + gzipSync(readFileSync(file)).length, 0);
    console.log(`     ${bytes} bytes gzip`);
    if (bytes > BUDGET_GZIP_BYTES) throw new Error(`${bytes} bytes`);
  });
} finally {
  await browser.close();
  mock.server.closeAllConnections();
  mock.server.close();
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
