import { access, constants, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { NodeError } from '../node-error.ts';

/** A nexlet that a node runs as a process, as in the list `agents` of Nex's configuration file. */
export interface LocalNexletSpec {
  /** Path of the program, plain or as `file://`. */
  readonly uri: string;
  readonly argv?: readonly string[];
  /** The whole environment but for what Nex adds: nothing is inherited. */
  readonly env?: Readonly<Record<string, string>>;
  /** How long it may take to end after SIGINT, in milliseconds; then come SIGTERM and SIGKILL. Default 10 s. */
  readonly graceMs?: number;
}

/**
 * The absolute or relative path of a program that can be run.
 *
 * @throws {NodeError} NODE_LOCAL_NEXLET_INVALID
 */
export async function programPath({ uri }: LocalNexletSpec): Promise<string> {
  const path = pathOf(uri);
  const refuse = (why: string, cause?: unknown) =>
    new NodeError('NODE_LOCAL_NEXLET_INVALID', `Cannot run the nexlet "${uri}": ${why}`, {
      cause,
      hint: 'Give the path of a program in "uri" of "agents": /usr/bin/nexlet or file:///usr/bin/nexlet',
    });
  try {
    if ((await stat(path)).isDirectory()) throw refuse('it is a folder');
  } catch (error) {
    if (error instanceof NodeError) throw error;
    throw refuse('there is no such file', error);
  }
  try {
    await access(path, constants.X_OK);
  } catch (cause) {
    throw refuse('it is not executable', cause);
  }
  return path;
}

function pathOf(uri: string): string {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(uri)) return uri;
  try {
    return fileURLToPath(uri);
  } catch (cause) {
    throw new NodeError('NODE_LOCAL_NEXLET_INVALID', `Cannot run the nexlet "${uri}": it is no file of this machine`, {
      cause,
      hint: 'Nexlets are run from a path or file:// only: fetch it to this machine first',
    });
  }
}
