import type { NatsConnectionData } from '@nex-nix/protocol';
import type { PrivateFolder } from '@nex-nix/sandbox';

const FOLDER = '/run/nex';
/** Name of the file in the sandbox's private folder. */
export const CREDENTIALS_FILE = 'nats.creds';

/** Where a workload finds its credentials, renewed while it runs, in the form that NATS clients take as a file. */
export const CREDENTIALS_PATH = `${FOLDER}/${CREDENTIALS_FILE}`;

/** The folder with the credentials; undefined when they are not of the kind that such a file holds. */
export function credentialsFolder(credentials: NatsConnectionData): PrivateFolder | undefined {
  const text = formatCredentials(credentials);
  return text === undefined ? undefined : { path: FOLDER, files: { [CREDENTIALS_FILE]: text } };
}

/**
 * User JWT and seed as a credentials file. Source of the format: `nsc generate creds`, as NATS clients read it: each of the two
 * on the line between a BEGIN and an END line.
 */
export function formatCredentials({
  nats_user_jwt: jwt,
  nats_user_seed: seed,
}: NatsConnectionData): string | undefined {
  if (jwt === '' || seed === '') return undefined;
  return [
    '-----BEGIN NATS USER JWT-----',
    jwt,
    '------END NATS USER JWT------',
    '',
    '-----BEGIN USER NKEY SEED-----',
    seed,
    '------END USER NKEY SEED------',
    '',
  ].join('\n');
}
