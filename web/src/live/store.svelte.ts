// What every page reads: the latest overview, and how old it is. The only writer is the stream.

import { follow, SILENT_MS, type Message } from './feed.ts';
import { merge } from './merge.ts';
import type { Overview } from '../api/types.ts';

/** Verdicts older than this are no verdicts any more. */
export const UNKNOWN_AFTER_MS = 30_000;

class Live {
  /** Raw: rows are replaced, never changed in place. */
  overview = $state.raw<Overview | null>(null);
  needsLogin = $state(false);
  /** Why the stream is down; null while it is up. */
  lost = $state<string | null>(null);
  /** This browser's clock at the last sign of life. */
  heardMs = $state(0);
  nowMs = $state(Date.now());
  paused = $state(false);
  startedMs = Date.now();

  ageMs = $derived(this.heardMs === 0 ? 0 : Math.max(0, this.nowMs - this.heardMs));
  stale = $derived(this.overview !== null && this.ageMs > SILENT_MS);
  expired = $derived(this.overview !== null && this.ageMs > UNKNOWN_AFTER_MS);

  #worker: SharedWorker | null = null;
  #alone: AbortController | null = null;
  #held: Message[] = [];

  start(): void {
    setInterval(() => (this.nowMs = Date.now()), 1_000);
    if (typeof SharedWorker === 'undefined') {
      this.#followAlone();
      return;
    }
    this.#worker = new SharedWorker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'weft-live' });
    this.#worker.port.onmessage = ({ data }: MessageEvent<Message>) => this.take(data);
    this.#worker.port.start();
    addEventListener('pagehide', () => this.#worker?.port.postMessage('bye'));
  }

  /** After a login, or by hand. */
  restart(): void {
    this.needsLogin = false;
    if (this.#worker !== null) this.#worker.port.postMessage('restart');
    else this.#followAlone();
  }

  /** Stops numbers, not time: what is held back is applied at once when the pause ends. */
  togglePause(): void {
    this.paused = !this.paused;
    if (this.paused) return;
    const held = this.#held;
    this.#held = [];
    for (const message of held) this.take(message);
  }

  take(message: Message): void {
    if (message.kind === 'login') {
      this.needsLogin = true;
      return;
    }
    if (message.kind === 'lost') {
      this.lost = message.why;
      return;
    }
    this.lost = null;
    this.needsLogin = false;
    this.heardMs = Date.now();
    this.nowMs = this.heardMs;
    if (message.kind === 'alive') return;
    if (this.paused) {
      this.#held = message.kind === 'snapshot' ? [message] : [...this.#held, message];
    } else if (message.kind === 'snapshot') {
      this.overview = message.data;
    } else if (this.overview !== null) {
      this.overview = merge(this.overview, message.data);
    }
  }

  /** Without SharedWorker each visible tab has a stream of its own. */
  #followAlone(): void {
    this.#alone?.abort();
    this.#alone = new AbortController();
    void follow((message) => this.take(message), this.#alone.signal);
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) this.#alone?.abort();
      else if (this.#alone?.signal.aborted === true) this.#followAlone();
    }, { once: true });
  }
}

export const live = new Live();
