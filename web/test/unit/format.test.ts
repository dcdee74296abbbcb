import { expect, test } from 'vitest';
import { age, millis, rate, share } from '../../src/ui/format.ts';

test.each([[0, '0/s'], [0.52, '0.5/s'], [310.4, '310/s'], [2_430, '2.4k/s'], [24_300, '24k/s']])('rate %d', (given, text) => {
  expect(rate(given)).toBe(text);
});

test.each([[null, '–'], [0, '0%'], [1, '100%'], [0.9999, '99.9%'], [0.0002, '0.1%'], [0.82, '82%']])('share %s', (given, text) => {
  expect(share(given)).toBe(text);
});

test.each([[0, 'now'], [41_500, '41 s'], [480_000, '8 m'], [7_200_000, '2 h'], [200_000_000, '2 d'], [-5, 'now']])('age %d', (given, text) => {
  expect(age(given)).toBe(text);
});

test.each([[null, '–'], [0.62, '0.6 ms'], [38.4, '38 ms']])('millis %s', (given, text) => {
  expect(millis(given)).toBe(text);
});
