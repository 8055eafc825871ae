import type { NatsConnectionData } from '@nex-nix/protocol';

/** When the credentials in connection data end, in milliseconds of the Unix epoch; undefined when they do not say. */
export function expiryOf({ nats_user_jwt: jwt }: NatsConnectionData): number | undefined {
  const claims = jwt.split('.')[1];
  if (claims === undefined) return undefined;
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(claims, 'base64url').toString());
  } catch {
    // Whoever made it: the server is who judges credentials.
    return undefined;
  }
  const expiry = typeof parsed === 'object' && parsed !== null && 'exp' in parsed ? parsed.exp : undefined;
  return typeof expiry === 'number' && expiry > 0 ? expiry * 1_000 : undefined;
}
