// Applies a delta to an overview. Pure.

import type { Delta, LinkView, Overview } from '../api/types.ts';

/** Events kept on screen. */
const EVENTS_MAX = 50;

const linkKey = (link: Pick<LinkView, 'from' | 'to'>): string => `${link.from}/${link.to}`;

export function merge(old: Overview, delta: Delta): Overview {
  const { zones = [], links = [], events = [], gone = {}, ...rest } = delta;
  return {
    ...old,
    ...rest,
    zones: upsert(old.zones, zones, (zone) => zone.name, gone.zones ?? []),
    links: upsert(old.links, links, linkKey, (gone.links ?? []).map(([from, to]) => linkKey({ from, to }))),
    events: upsert(old.events, events, (event) => String(event.id), [])
      .sort((a, b) => b.id - a.id)
      .slice(0, EVENTS_MAX),
  };
}

function upsert<T>(old: T[], changed: T[], key: (row: T) => string, gone: string[]): T[] {
  const rows = new Map(old.map((row) => [key(row), row]));
  for (const row of changed) rows.set(key(row), { ...rows.get(key(row)), ...row });
  for (const name of gone) rows.delete(name);
  return [...rows.values()];
}
