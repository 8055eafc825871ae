import type { DevEvent } from './dev-event.ts';

/** A line for what is worth knowing; undefined for what is as it was the last time. */
export function describeEvent(event: DevEvent): string | undefined {
  switch (event.type) {
    case 'identity':
      return event.created ? `${event.kind} ${event.name} created` : undefined;
    case 'store-notice':
      return event.message;
    case 'account':
      if (event.outcome === 'newer-on-server')
        return `account ${event.name}: the server has a newer one, left as it is`;
      return event.outcome === 'pushed' ? `account ${event.name} pushed to the server` : undefined;
    case 'context':
      return event.written ? `context ${event.name} written to ${event.file}` : undefined;
    case 'stream':
      return event.created ? `stream ${event.name} created` : undefined;
    case 'orphan-ended':
      return `ended process ${event.pid}, which an earlier run had left`;
  }
}
