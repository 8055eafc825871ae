import { ContextError, loadContext, saveContext } from '@nex-nix/nats-context';
import type { OnDevEvent } from '../dev-event.ts';

/** The contexts that there are, and the user of each. */
export const CONTEXTS = { Sys: 'sys', ExpAdmin: 'Admin', ExpNode: 'Node' } as const;

export interface DevContext {
  name: string;
  url: string;
  /** Absolute path of the user's creds file. */
  creds: string;
}

/** Writes a natscli context with server and creds. Other fields of an existing one are kept; one that says it already is not touched. */
export async function ensureContext(configDir: string, context: DevContext, onEvent: OnDevEvent): Promise<void> {
  const { name, url, creds } = context;
  const present = await loadContext(name, { configDir }).catch(notFound);
  const written = present?.url !== url || present.creds !== creds;
  if (written) await saveContext(name, { ...present, url, creds }, { configDir });
  onEvent({ type: 'context', name, file: `${configDir}/nats/context/${name}.json`, written });
}

function notFound(error: unknown): undefined {
  if (error instanceof ContextError && error.code === 'CONTEXT_NOT_FOUND') return undefined;
  throw error;
}
