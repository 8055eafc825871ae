import type { ServiceName } from '@nex-nix/devenv';
import { CliError } from '../cli-error.ts';

const NAMES: readonly ServiceName[] = ['nats', 'accounts', 'cache', 'node'];

/**
 * Words of a command line as services.
 *
 * @throws {CliError} CLI_USAGE
 */
export function serviceNames(words: readonly string[]): ServiceName[] {
  return words.map((word) => {
    const found = NAMES.find((name) => name === word);
    if (found !== undefined) return found;
    throw new CliError('CLI_USAGE', `Cannot take "${word}" for a service: write ${NAMES.join(', ')}`);
  });
}
