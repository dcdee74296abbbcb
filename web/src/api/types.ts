// What control planes send. Twins of the Rust types in api/src/health.rs; `weft-global-cp` is the authority.

export type Status = 'healthy' | 'degraded' | 'partitioned' | 'offline' | 'unknown';
export type LinkState = 'up' | 'down' | 'unknown';

export interface ZoneView {
  name: string;
  region: string | null;
  state: 'Active' | 'Draining' | 'Disabled';
  status: Status;
  why: string;
  autonomous: boolean;
  sinceMs: number;
  seenMs: number | null;
  revision: number | null;
  behind: number;
  rejected: number;
  proxiesReady: number;
  proxiesTotal: number;
  gatewaysReady: number;
  gatewaysTotal: number;
  rps: number;
  local: number | null;
  failed: number | null;
  capacity: number | null;
  version: string;
}

export interface LinkView {
  from: string;
  to: string;
  state: LinkState;
  why: string;
  rttMs: number | null;
  loss: number | null;
  rps: number;
  spillRps: number;
  seenMs: number | null;
}

export interface Event {
  id: number;
  atMs: number;
  zone: string | null;
  status: Status | null;
  text: string;
}

export interface Overview {
  headline: string;
  observer: string;
  revision: number;
  atMs: number;
  zones: ZoneView[];
  links: LinkView[];
  events: Event[];
}

/** Changes since the last snapshot or delta: whole rows by name, and the names of rows that are gone. */
export interface Delta extends Partial<Omit<Overview, 'zones' | 'links' | 'events'>> {
  zones?: ZoneView[];
  links?: LinkView[];
  events?: Event[];
  gone?: { zones?: string[]; links?: [string, string][] };
}

/** Worst last in severity order of people, first in lists. */
export const STATUSES: readonly Status[] = ['healthy', 'degraded', 'partitioned', 'offline', 'unknown'];
