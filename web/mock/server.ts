// A control plane made of scenarios: `npm run mock -- [PORT]`, then `npm run dev`.
// The scenario is chosen by `POST /mock/NAME`; `silent` stops the stream without closing it.

import { createServer, type Server, type ServerResponse } from 'node:http';
import { existsSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { scenario } from './scenarios.ts';

const TYPES: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
export const CSP =
  "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self' 'unsafe-hashes'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'";

export interface Mock {
  server: Server;
  url: string;
  show: (name: string) => void;
  streams: () => number;
}

export async function startMock(port: number, dist: string | null): Promise<Mock> {
  let current = 'healthy';
  let revision = 1;
  const open = new Set<ServerResponse>();
  const send = (to: ServerResponse, event: string, data: unknown): void => {
    to.write(`event: ${event}\nid: m.${revision}\ndata: ${JSON.stringify(data)}\n\n`);
  };
  const show = (name: string): void => {
    current = name;
    revision += 1;
    for (const each of open) if (name !== 'silent') send(each, 'snapshot', scenario(name));
  };
  const beat = setInterval(() => {
    for (const each of open) if (current !== 'silent') send(each, 'beat', { at: Date.now() });
  }, 2_000);
  const server = createServer((request, answer) => {
    const path = new URL(request.url ?? '/', 'http://mock').pathname;
    if (path.startsWith('/mock/')) {
      show(path.slice(6));
      answer.end('ok');
    } else if (path === '/api/v1/stream') {
      if (current === 'login') {
        answer.writeHead(401, { 'content-type': 'application/problem+json' }).end('{"code":"unauthenticated","title":"Sign in","status":401}');
        return;
      }
      answer.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
      open.add(answer);
      request.on('close', () => open.delete(answer));
      send(answer, 'hello', { proto: 1, server: 'mock', epoch: 'm', gui: '' });
      if (current !== 'silent') send(answer, 'snapshot', scenario(current));
    } else if (path === '/api/v1/login') {
      answer.writeHead(401, { 'content-type': 'application/problem+json' });
      answer.end('{"code":"unauthenticated","title":"The token is not valid","status":401,"detail":""}');
    } else if (dist !== null) {
      const asset = path.startsWith('/assets/');
      const file = join(dist, asset ? path : 'index.html');
      if (!existsSync(file)) {
        answer.writeHead(404).end();
        return;
      }
      answer.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream', 'content-security-policy': CSP });
      answer.end(readFileSync(file));
    } else {
      answer.writeHead(404).end();
    }
  });
  server.on('close', () => clearInterval(beat));
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const bound = server.address();
  const real = typeof bound === 'object' && bound !== null ? bound.port : port;
  return { server, url: `http://127.0.0.1:${real}`, show, streams: () => open.size };
}

if (process.argv[1]?.endsWith('server.js') === true) {
  const mock = await startMock(Number(process.argv[2] ?? 5689), null);
  console.log(`mock control plane at ${mock.url}; choose with: curl -X POST ${mock.url}/mock/{healthy,cut,autonomous,empty,silent,login}`);
}
