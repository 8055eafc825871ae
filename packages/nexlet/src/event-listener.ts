import type { NatsConnection } from '@nats-io/nats-core';
import type { NexletParts } from './nexlet-endpoints.ts';

/**
 * Hands what is published for a nexlet to its definition. Not an endpoint of its service: nexlets of Go nodes with a
 * signing key may not subscribe to it, and a service whose subject is denied ends.
 */
export function subscribeToEvents(nc: NatsConnection, { definition, agentId, logger }: NexletParts): void {
  if (definition.onEvent === undefined) return;
  const hand = async (text: string) => {
    try {
      await definition.onEvent?.(jsonOrText(text));
    } catch (error) {
      logger.warn({ err: error }, 'an event for the nexlet failed');
    }
  };
  nc.subscribe(`$NEX.FEED.${agentId}.events`, {
    queue: agentId,
    callback: (error, msg) => {
      if (error === null) void hand(msg.string());
      else logger.warn({ err: error }, 'events for the nexlet cannot be heard');
    },
  });
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
