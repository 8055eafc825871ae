import type { NatsConnection } from '@nats-io/nats-core';

const SENDING = new Set<PropertyKey>(['publish', 'publishMessage', 'respondMessage', 'request', 'requestMany']);

/**
 * The same connection, which sends nothing once `check` throws. The check is made in the same turn in which the message
 * is handed to the connection, so that a process that was asleep for a while does not go on where it was.
 */
export function fencedConnection(nc: NatsConnection, check: () => void): NatsConnection {
  return new Proxy(nc, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      const method = value as (...args: unknown[]) => unknown;
      if (!SENDING.has(key)) return method.bind(target);
      return (...args: unknown[]) => {
        check();
        return method.apply(target, args);
      };
    },
  });
}
