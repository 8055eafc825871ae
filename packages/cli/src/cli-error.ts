import { errorClass, type ErrorKind } from '@nex-nix/errors';

const KINDS = {
  /** Arguments that make no sense. */
  CLI_USAGE: 'usage',
  /** A configuration file that cannot be read, or a value in it that makes no sense. */
  CLI_CONFIG_INVALID: 'usage',
  /** The time that the whole command was given is over. */
  CLI_TIMEOUT: 'unreachable',
  /** A workload was accepted and then did not come up. */
  CLI_WORKLOAD_FAILED: 'failed',
  /** A workload did not come up in time. */
  CLI_WORKLOAD_TIMEOUT: 'failed',
  /** There is no workload of that id or name. */
  CLI_WORKLOAD_NOT_FOUND: 'not-found',
  /** A workload was accepted by a node that then said that it has ended in failure. */
  CLI_JOB_FAILED: 'failed',
  /** A node said no. */
  CLI_NODE_REFUSED: 'failed',
  /** There is no node of that id or name. */
  CLI_NODE_NOT_FOUND: 'not-found',
  /** Several nodes have that name. */
  CLI_NODE_AMBIGUOUS: 'usage',
  /** Several workloads have that name. */
  CLI_WORKLOAD_AMBIGUOUS: 'usage',
  /** A key file that is there and cannot be used. */
  CLI_KEY_INVALID: 'usage',
  /** This machine lacks something that a node needs. */
  CLI_MACHINE_UNFIT: 'failed',
  /** A node runs on that state folder, or somebody cleans up there. */
  CLI_STATE_FOLDER_IN_USE: 'refused',
  /** There is no such state folder. */
  CLI_STATE_FOLDER_NOT_FOUND: 'not-found',
  /** There is no pin of that name in the cache. */
  CLI_PIN_NOT_FOUND: 'not-found',
  /** The cache does not have that store path, or there is no such file in it. */
  CLI_PATH_NOT_CACHED: 'not-found',
  /** No key that was named has signed the store path. */
  CLI_PATH_UNTRUSTED: 'refused',
  /** A file that is not to be overwritten is there already. */
  CLI_FILE_EXISTS: 'refused',
  /** Somebody must agree first, and nobody can be asked. */
  CLI_DEV_NOT_CONFIRMED: 'refused',
  /** Dev services in the background ended before they were ready. */
  CLI_DEV_ENDED: 'failed',
  /** The user ended the command. */
  CLI_INTERRUPTED: 'failed',
} as const satisfies Record<string, ErrorKind>;

/** What the command itself finds wrong; everything else comes from the packages it calls. */
export class CliError extends errorClass(KINDS) {}
