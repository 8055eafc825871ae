import type { IncomingMessage, ServerResponse } from 'node:http';

/** A request and its answer. The signal ends both. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly signal: AbortSignal;
}
