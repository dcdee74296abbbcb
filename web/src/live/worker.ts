// One stream per browser, whatever the number of tabs: HTTP/1.1 allows six connections to a host, and a seventh
// tab with a stream of its own would hang.

import { follow, type Message } from './feed.ts';
import { merge } from './merge.ts';
import type { Overview } from '../api/types.ts';

const ports = new Set<MessagePort>();
let latest: Overview | null = null;
let running: AbortController | null = null;
let link: Message | null = null;

(self as unknown as { onconnect: (event: MessageEvent) => void }).onconnect = (event) => {
  const port = event.ports[0];
  if (port === undefined) return;
  ports.add(port);
  port.onmessage = ({ data }: MessageEvent<'restart' | 'bye'>) => {
    if (data === 'bye') ports.delete(port);
    else start();
    if (ports.size === 0) stop();
  };
  if (latest !== null) port.postMessage({ kind: 'snapshot', data: latest } satisfies Message);
  if (link !== null) port.postMessage(link);
  if (running === null) start();
};

function start(): void {
  stop();
  running = new AbortController();
  void follow(tell, running.signal);
}

function stop(): void {
  running?.abort();
  running = null;
}

function tell(message: Message): void {
  if (message.kind === 'snapshot') latest = message.data;
  else if (message.kind === 'delta') latest = latest === null ? null : merge(latest, message.data);
  else link = message.kind === 'alive' ? null : message;
  for (const port of ports) port.postMessage(message);
}
