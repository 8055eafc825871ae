import { errorClass, type ErrorKind } from '@nex-nix/errors';

const KINDS = {
  /** Arguments that make no sense. */
  CLI_USAGE: 'usage',
  /** A workload was accepted and then did not come up. */
  CLI_WORKLOAD_FAILED: 'failed',
  /** A workload did not come up in time. */
  CLI_WORKLOAD_TIMEOUT: 'failed',
  /** There is no workload of that id or name. */
  CLI_WORKLOAD_NOT_FOUND: 'not-found',
  /** This machine lacks something that a node needs. */
  CLI_MACHINE_UNFIT: 'failed',
  /** There is no pin of that name in the cache. */
  CLI_PIN_NOT_FOUND: 'not-found',
  /** The cache does not have that store path, or there is no such file in it. */
  CLI_PATH_NOT_CACHED: 'not-found',
  /** No key that was named has signed the store path. */
  CLI_PATH_UNTRUSTED: 'refused',
  /** A file that is not to be overwritten is there already. */
  CLI_FILE_EXISTS: 'refused',
  /** The user ended the command. */
  CLI_INTERRUPTED: 'failed',
} as const satisfies Record<string, ErrorKind>;

/** What the command itself finds wrong; everything else comes from the packages it calls. */
export class CliError extends errorClass(KINDS) {}
