import { expect, test } from 'vitest';
import { parseEvents } from '../../src/live/feed.ts';
import { merge } from '../../src/live/merge.ts';
import { scenario } from '../../mock/scenarios.ts';

test('events are taken whole, whatever the pieces they arrive in', () => {
  const text = 'event: hello\ndata: {}\n\nevent: delta\nid: k.2\ndata: {"a":\ndata: 1}\n\n: comment\n\nevent: be';
  for (let cut = 0; cut <= text.length; cut++) {
    const first = parseEvents(text.slice(0, cut));
    const second = parseEvents(first.rest + text.slice(cut));
    expect([...first.events, ...second.events]).toEqual([
      { event: 'hello', id: '', data: '{}' },
      { event: 'delta', id: 'k.2', data: '{"a":\n1}' },
    ]);
    expect(second.rest).toBe('event: be');
  }
});

test('carriage returns end lines too', () => {
  expect(parseEvents('data: x\r\n\r\n').events).toEqual([{ event: 'message', id: '', data: 'x' }]);
});

test('a delta changes the rows it names and no other', () => {
  const old = scenario('healthy');
  const [east, edge] = [old.zones[0], old.zones[1]];
  if (east === undefined || edge === undefined) throw new Error('the scenario has zones');
  const next = merge(old, { headline: 'east is offline.', zones: [{ ...east, status: 'offline' }], gone: { zones: ['west'], links: [['east', 'west']] } });
  expect(next.headline).toBe('east is offline.');
  expect(next.zones.map((zone) => [zone.name, zone.status])).toEqual([['east', 'offline'], ['edge', 'healthy']]);
  expect(next.zones[1]).toBe(edge);
  expect(next.links).toHaveLength(old.links.length - 1);
  expect(old.zones[0]?.status).toBe('healthy');
});

test('events are newest first, each once', () => {
  const old = scenario('cut');
  const again = old.events[0];
  if (again === undefined) throw new Error('the scenario has events');
  const next = merge(old, { events: [again, { ...again, id: 9 }] });
  expect(next.events.map((event) => event.id)).toEqual([9, 3, 2, 1]);
});
