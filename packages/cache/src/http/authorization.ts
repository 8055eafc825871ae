import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { Refusal } from './refusal.ts';

/** Who may do what at the door. */
export interface AccessOptions {
  /** Whoever writes must show it; without a token nobody can. */
  token?: string | undefined;
  /** Whether whoever reads must show it as well. @default false */
  protectReads?: boolean | undefined;
}

/**
 * Lets a request pass, or refuses it. The token comes as `Authorization: Bearer`, or as the password of `Basic`, which is
 * what Nix sends out of its netrc file; the user name does not matter.
 * @throws {@link Refusal} 401, 403
 */
export function authorize(
  request: IncomingMessage,
  { token, protectReads = false }: AccessOptions,
  access: 'read' | 'write',
): void {
  if (access === 'read' && !protectReads) return;
  if (token === undefined) {
    throw new Refusal(
      403,
      'Cannot write: this door has no token, so it only reads (nex cache serve --token-file FILE)',
    );
  }
  const given = tokenOf(request.headers.authorization);
  if (given !== undefined && isSame(given, token)) return;
  const why = given === undefined ? 'a token is needed' : 'the token is wrong';
  throw new Refusal(401, `Cannot ${access}: ${why}; give it to Nix as the password in its netrc-file`, {
    headers: { 'www-authenticate': 'Basic realm="nex cache"' },
  });
}

function tokenOf(header: string | undefined): string | undefined {
  const [, scheme = '', value = ''] = /^(\S+) +(\S+)$/.exec(header ?? '') ?? [];
  if (scheme.toLowerCase() === 'bearer') return value;
  if (scheme.toLowerCase() !== 'basic') return undefined;
  const login = Buffer.from(value, 'base64').toString();
  const colon = login.indexOf(':');
  return colon === -1 ? undefined : login.slice(colon + 1);
}

/** Takes the same time wherever the two differ. */
function isSame(given: string, token: string): boolean {
  const [a, b] = [given, token].map((text) => createHash('sha256').update(text).digest()) as [Buffer, Buffer];
  return timingSafeEqual(a, b);
}
