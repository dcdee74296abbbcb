// Reads the one stream of a browser: server-sent events over fetch, because EventSource hides the HTTP status and
// cannot be resumed by hand. Knows nothing of the screen.

import { streamUrl } from '../api/client.ts';
import type { Delta, Overview } from '../api/types.ts';

/** The server beats every 5 s; this long without anything means that what we show is the past. */
export const SILENT_MS = 12_000;
const BACKOFF_MS = [250, 1_000, 2_000, 5_000];

export type Message =
  | { kind: 'snapshot'; data: Overview }
  | { kind: 'delta'; data: Delta }
  | { kind: 'alive' }
  | { kind: 'lost'; why: string }
  | { kind: 'login' };

export interface SseEvent {
  event: string;
  id: string;
  data: string;
}

/** Takes whole events out of a growing text; returns them and the rest (WHATWG HTML, section 9.2.6). */
export function parseEvents(text: string): { events: SseEvent[]; rest: string } {
  const events: SseEvent[] = [];
  const blocks = text.replace(/\r\n?/g, '\n').split('\n\n');
  const rest = blocks.pop() ?? '';
  for (const block of blocks) {
    const found: SseEvent = { event: 'message', id: '', data: '' };
    const data: string[] = [];
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':');
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === 'event') found.event = value;
      else if (field === 'id') found.id = value;
      else if (field === 'data') data.push(value);
    }
    found.data = data.join('\n');
    if (data.length > 0) events.push(found);
  }
  return { events, rest };
}

/** Runs until aborted; reports everything through `tell`. */
export async function follow(tell: (message: Message) => void, signal: AbortSignal): Promise<void> {
  let cursor = '';
  let attempt = 0;
  while (!signal.aborted) {
    let wait = BACKOFF_MS[Math.min(attempt, BACKOFF_MS.length - 1)] ?? 5_000;
    try {
      const url = cursor === '' ? streamUrl() : `${streamUrl()}?after=${encodeURIComponent(cursor)}`;
      const answer = await fetch(url, { headers: { accept: 'text/event-stream' }, signal });
      if (answer.status === 401) {
        tell({ kind: 'login' });
        return;
      }
      if (!answer.ok || answer.body === null) throw new Error(`the server answered ${answer.status}`);
      attempt = 0;
      for await (const event of eventsOf(answer.body, signal)) {
        if (event.event === 'snapshot') tell({ kind: 'snapshot', data: JSON.parse(event.data) as Overview });
        else if (event.event === 'delta') tell({ kind: 'delta', data: JSON.parse(event.data) as Delta });
        else tell({ kind: 'alive' });
        if (event.id !== '') cursor = event.id;
        if (event.event === 'bye') {
          const { retryAfterMs } = JSON.parse(event.data) as { retryAfterMs?: number };
          wait = retryAfterMs ?? wait;
          break;
        }
      }
      tell({ kind: 'lost', why: 'the control plane closed the stream' });
    } catch (error) {
      if (signal.aborted) return;
      tell({ kind: 'lost', why: error instanceof Error ? error.message : String(error) });
    }
    attempt += 1;
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function* eventsOf(body: ReadableStream<Uint8Array>, signal: AbortSignal): AsyncGenerator<SseEvent> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let text = '';
  try {
    while (!signal.aborted) {
      const { value, done } = await within(reader.read(), SILENT_MS);
      if (done) return;
      const parsed = parseEvents(text + value);
      text = parsed.rest;
      yield* parsed.events;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`nothing heard for ${ms / 1000} s`)), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
