// Overviews that a control plane could send, for development, tests and pictures in the documentation.

import type { Event, LinkView, Overview, Status, ZoneView } from '../src/api/types.ts';

const REGIONS: Record<string, string> = { west: 'us', east: 'us', edge: 'eu', south: 'ap' };

export function zone(name: string, status: Status, why: string, more: Partial<ZoneView> = {}): ZoneView {
  const now = Date.now();
  return {
    name, region: REGIONS[name] ?? 'eu', state: 'Active', status, why, autonomous: false, sinceMs: now - 840_000, seenMs: now,
    revision: 8844, behind: 0, rejected: 0, proxiesReady: 8, proxiesTotal: 8, gatewaysReady: 2, gatewaysTotal: 2,
    rps: 1_240, local: 0.97, failed: 0.0002, capacity: 1, version: '0.1.0', ...more,
  };
}

export function links(names: string[], change: (link: LinkView) => Partial<LinkView> = () => ({})): LinkView[] {
  return names.flatMap((from) =>
    names.filter((to) => to !== from).map((to) => {
      const link: LinkView = { from, to, state: 'up', why: '', rttMs: 38 + 11 * names.indexOf(to), loss: 0, rps: 24, spillRps: 0, seenMs: Date.now() };
      return { ...link, ...change(link) };
    }),
  );
}

function event(id: number, ago: number, name: string | null, status: Status | null, text: string): Event {
  return { id, atMs: Date.now() - ago, zone: name, status, text };
}

const IN_SYNC = 'in sync, reachable from every peer';

export function scenario(name: string): Overview {
  const base = { observer: 'global', revision: 8844, atMs: Date.now() };
  const three = ['west', 'east', 'edge'];
  switch (name) {
    case 'empty':
      return { ...base, headline: 'No zone has been created yet.', revision: 0, zones: [], links: [], events: [] };
    case 'cut':
      return {
        ...base,
        headline: 'edge is partitioned: 1/2 peers reach it, it reaches 1/2. 310/s served by another zone than usual.',
        zones: [
          zone('edge', 'partitioned', '1/2 peers reach it, it reaches 1/2 (east)', { rps: 410, local: 0.41 }),
          zone('west', 'degraded', '6/8 proxies ready', { proxiesReady: 6, capacity: 0.75, local: 0.82 }),
          zone('east', 'healthy', IN_SYNC),
        ],
        links: links(three, ({ from, to }) => {
          const pair = [from, to].sort().join();
          if (pair === 'east,edge') return { state: 'down', why: 'TCP timeout after 2 s at 127.2.0.2:15443', rttMs: null, loss: 1, rps: 0 };
          if (from === 'edge' && to === 'west') return { rps: 330, spillRps: 310 };
          return {};
        }),
        events: [
          event(3, 21_000, 'edge', 'partitioned', 'edge lost east in both directions'),
          event(2, 60_000, 'west', 'degraded', 'west: 6/8 proxies ready'),
          event(1, 900_000, 'east', 'healthy', 'east accepted revision 8841'),
        ],
      };
    case 'autonomous':
      return {
        ...base,
        headline: 'edge is degraded: serving traffic, but cut off from the global control plane.',
        zones: [
          zone('edge', 'degraded', 'serving traffic, but cut off from the global control plane', { autonomous: true, seenMs: Date.now() - 48_000 }),
          zone('west', 'healthy', IN_SYNC), zone('east', 'healthy', IN_SYNC),
        ],
        links: links(three),
        events: [event(1, 48_000, 'edge', 'degraded', 'edge lost its control link; it keeps routing')],
      };
    default:
      return {
        ...base,
        headline: 'All 3 zones are healthy.',
        zones: ['east', 'edge', 'west'].map((each) => zone(each, 'healthy', IN_SYNC)),
        links: links(three),
        events: [event(1, 900_000, 'east', 'healthy', 'east accepted revision 8841')],
      };
  }
}
