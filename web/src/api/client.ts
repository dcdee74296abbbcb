// Requests to the control plane that served this page. Errors are RFC 9457 problems.

export interface Problem {
  code: string;
  title: string;
  status: number;
  detail: string;
  requestId: string;
}

const BASE = '/api/v1';

export function streamUrl(): string {
  return `${BASE}/stream`;
}

/** Turns a token into a session cookie that scripts cannot read. Returns what went wrong, or null. */
export async function login(token: string): Promise<Problem | null> {
  try {
    const answer = await fetch(`${BASE}/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ token }),
    });
    return answer.ok ? null : await problemOf(answer);
  } catch {
    return { code: 'unreachable', title: 'The control plane does not answer', status: 0, detail: '', requestId: '' };
  }
}

export async function problemOf(answer: Response): Promise<Problem> {
  const given = (await answer.json().catch(() => ({}))) as Partial<Problem>;
  return {
    code: given.code ?? 'unknown',
    title: given.title ?? `The server answered ${answer.status}`,
    status: answer.status,
    detail: given.detail ?? '',
    requestId: given.requestId ?? answer.headers.get('x-request-id') ?? '',
  };
}
