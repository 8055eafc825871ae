import { closeSync, openSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { ErrorKind } from '@nex-nix/errors';
import type { DevLogEntry, DevStatus, ServiceName } from '../dev-controls.ts';

/**
 * What is said over the control socket: a line of JSON each way. A connection is for one request, which ends when the connection does;
 * so whoever wants no more closes it.
 */
export const CONTROL_VERSION = 1;

/** Characters that a line may have. Requests are small; a reply is a log line or a status. */
export const LONGEST_REQUEST = 64 * 1024;
export const LONGEST_REPLY = 1024 * 1024;

export type ControlRequest = { version: number } & (
  | { op: 'status' | 'watch' | 'down' }
  | { op: 'logs'; services?: readonly ServiceName[]; tail?: number; follow?: boolean }
  | { op: 'restart'; service: ServiceName }
);

export type ControlReply =
  | { status: DevStatus }
  | { entry: DevLogEntry }
  | { error: { code: string; kind: ErrorKind; message: string; hint?: string } }
  /** The last one. */
  | { done: true };

/** A path of any length as one that fits into the 107 bytes of a Unix socket's address (unix(7)), as long as it is not disposed of. */
export function shortPath(file: string): Disposable & { path: string } {
  const folder = openSync(dirname(file), 'r');
  let open = true;
  return {
    path: `/proc/self/fd/${folder}/${basename(file)}`,
    [Symbol.dispose]() {
      if (open) closeSync(folder);
      open = false;
    },
  };
}
