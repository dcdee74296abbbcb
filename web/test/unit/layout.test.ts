import { expect, test } from 'vitest';
import { CARD, curve, neighbour, ring } from '../../src/ui/layout.ts';

const SIZE = { width: 980, height: 520 };
const zones = (names: string[]) => names.map((name) => ({ name, region: name.slice(0, 2) }));

test('the layout is a function of names, not of the order of arrival', () => {
  const names = ['us-west', 'eu-north', 'ap-south', 'us-east'];
  expect(ring(zones(names), SIZE)).toEqual(ring(zones([...names].reverse()), SIZE));
});

test('cards stay on the plane', () => {
  for (let n = 1; n <= 16; n++) {
    const at = ring(zones(Array.from({ length: n }, (_, i) => `zone-${i}`)), SIZE);
    expect(at.size).toBe(n);
    for (const { x, y } of at.values()) {
      expect(x - CARD.width / 2).toBeGreaterThanOrEqual(0);
      expect(x + CARD.width / 2).toBeLessThanOrEqual(SIZE.width);
      expect(y - CARD.height / 2).toBeGreaterThanOrEqual(0);
      expect(y + CARD.height / 2).toBeLessThanOrEqual(SIZE.height);
    }
  }
});

test('arrow keys go to the nearest zone in their direction', () => {
  const at = new Map([['a', { x: 0, y: 0 }], ['b', { x: 100, y: 10 }], ['c', { x: 400, y: 0 }], ['d', { x: 0, y: 200 }]]);
  expect(neighbour(at, 'a', 'ArrowRight')).toBe('b');
  expect(neighbour(at, 'b', 'ArrowRight')).toBe('c');
  expect(neighbour(at, 'a', 'ArrowDown')).toBe('d');
  expect(neighbour(at, 'a', 'ArrowUp')).toBeNull();
  expect(neighbour(at, 'a', 'x')).toBeNull();
});

test('the two directions of a pair bend to opposite sides', () => {
  const [a, b] = [{ x: 100, y: 250 }, { x: 800, y: 250 }];
  expect(curve(a, b).middle.y).toBeGreaterThan(250);
  expect(curve(b, a).middle.y).toBeLessThan(250);
});
