import type { NatsConnection } from '@nats-io/nats-core';
import { CacheError } from '../errors.ts';
import { MAX_CHUNK_SIZE } from '../chunks/fastcdc.ts';
import { serverName } from './nats-errors.ts';

/** What headers, and the narinfo beside a manifest, may take of a message. */
const RESERVE = 4096;

/** The default of nats-server, of which a server that does not say more is believed to have it. */
const DEFAULT_MAX_PAYLOAD = 1024 * 1024;

/** Bytes that the body of a message to this server may have. */
export function maxBody(nc: NatsConnection): number {
  return (nc.info?.max_payload ?? DEFAULT_MAX_PAYLOAD) - RESERVE;
}

/**
 * Checks that a chunk fits into a message.
 * @throws {@link CacheError} `CACHE_PAYLOAD_LIMIT`
 */
export function requirePayload(nc: NatsConnection): void {
  if (maxBody(nc) >= MAX_CHUNK_SIZE) return;
  const need = MAX_CHUNK_SIZE + RESERVE;
  throw new CacheError(
    'CACHE_PAYLOAD_LIMIT',
    `Cannot use a cache on ${serverName(nc)}: its max_payload is ${maxBody(nc) + RESERVE}, a chunk takes up to ${need}`,
    { hint: 'Set max_payload to 1MB, its default, in the configuration of nats-server' },
  );
}
