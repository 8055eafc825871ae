import { join } from 'node:path';
import { connectNats, resolveTarget, serverAccess } from '@nex-nix/nats-context';
import type { Logger } from '@nex-nix/nexlet';
import {
  accountRevoker,
  DEFAULT_TTL,
  fullAccessMinter,
  type Minter,
  nkeyMinter,
  RevocationLedger,
  type Revoker,
  signingKeyMinter,
} from '@nex-nix/node';
import { CliError } from './cli-error.ts';
import type { Context } from './context.ts';
import { readSecretFile, seedIn } from './secret-file.ts';

/** The options of a node that say which credentials it hands out. */
export interface MinterOptions {
  stateDir: string;
  issuerSigningKey?: string;
  issuerSigningKeyRootAccount?: string;
  issuerNkey?: string;
  issuerNkeySeed?: string;
  issuerOperatorSeed?: string;
  systemContext?: string;
  /** In milliseconds. */
  credentialsTtl?: number;
  /** In milliseconds. */
  workloadCredentialsTtl?: number;
  workloadPublish?: string[];
  workloadSubscribe?: string[];
  privateInboxes?: boolean;
}

export interface MinterParts {
  logger: Logger;
  /** Closes what the minter uses. */
  stack: AsyncDisposableStack;
}

/** The minter that the options ask for: signing key, nkey or none; options win over the environment. */
export async function chooseMinter(context: Context, given: MinterOptions, parts: MinterParts): Promise<Minter> {
  const options = withEnvironment(given);
  const target = await resolveTarget(context.connection);
  const access = serverAccess(target);
  const signing = pair(options.issuerSigningKey, options.issuerSigningKeyRootAccount, [
    '--issuer-signing-key',
    '--issuer-signing-key-root-account',
  ]);
  const nkey = pair(options.issuerNkey, options.issuerNkeySeed, ['--issuer-nkey', '--issuer-nkey-seed']);
  if (signing !== undefined && nkey !== undefined) {
    throw new CliError('CLI_USAGE', 'Cannot mint credentials with a signing key and with an nkey: choose one of them');
  }
  if (nkey !== undefined) return nkeyMinter({ ...access, nkey: nkey[0], seed: await seedIn(nkey[1], 'SU') });
  if (signing === undefined) {
    refuseWithoutSigningKey(options);
    return fullAccessMinter(access);
  }
  const [key, rootAccount] = signing;
  return signingKeyMinter({
    ...access,
    seed: await seedIn(key, 'SA'),
    rootAccount,
    ttl: {
      agent: options.credentialsTtl ?? DEFAULT_TTL.agent,
      workload: options.workloadCredentialsTtl ?? DEFAULT_TTL.workload,
    },
    grants: {
      publish: options.workloadPublish ?? [],
      subscribe: options.workloadSubscribe ?? [],
      privateInboxes: options.privateInboxes ?? false,
    },
    revoker: await revokerOf(context, options, { ...parts, rootAccount }),
  });
}

function withEnvironment(options: MinterOptions): MinterOptions {
  const { env } = process;
  const hasNkey = options.issuerNkey !== undefined || options.issuerNkeySeed !== undefined;
  const fromEnvironment = {
    issuerSigningKey: hasNkey ? undefined : env['NEX_ISSUER_SIGNING_KEY'],
    issuerSigningKeyRootAccount: hasNkey ? undefined : env['NEX_ISSUER_ROOT_ACCOUNT'],
    issuerOperatorSeed: hasNkey ? undefined : env['NEX_ISSUER_OPERATOR_SEED'],
    systemContext: hasNkey ? undefined : env['NEX_SYSTEM_CONTEXT'],
  };
  const present = Object.entries(fromEnvironment).filter(([, value]) => value !== undefined && value !== '');
  return { ...Object.fromEntries(present), ...options };
}

/** What takes credentials back; undefined when the node is not given what that needs. */
async function revokerOf(
  context: Context,
  options: MinterOptions,
  { logger, stack, rootAccount }: MinterParts & { rootAccount: string },
): Promise<Revoker | undefined> {
  const given = pair(options.issuerOperatorSeed, options.systemContext, ['--issuer-operator-seed', '--system-context']);
  if (given === undefined) return undefined;
  const [seedFile, systemContext] = given;
  const operatorSeed = await readSecretFile(seedFile, {
    what: 'the seed of the operator',
    hint: 'nsc keeps it below ~/.local/share/nats/nsc/keys/keys/O',
    warn: (message) => logger.warn({ file: seedFile }, message),
  });
  const nc = await connectNats({ context: systemContext, name: 'nex node, revocations', signal: context.signal });
  stack.defer(() => nc.close());
  const longest = Math.max(
    options.credentialsTtl ?? DEFAULT_TTL.agent,
    options.workloadCredentialsTtl ?? DEFAULT_TTL.workload,
  );
  const ledger = await RevocationLedger.open(join(options.stateDir, 'revocations.json'), longest);
  return accountRevoker(nc, { operatorSeed, account: rootAccount, ledger, logger });
}

function refuseWithoutSigningKey(options: MinterOptions): void {
  const needing = {
    '--issuer-operator-seed': options.issuerOperatorSeed,
    '--workload-publish': options.workloadPublish,
    '--workload-subscribe': options.workloadSubscribe,
    '--private-inboxes': options.privateInboxes === true ? true : undefined,
  };
  const [flag] = Object.entries(needing).find(([, value]) => value !== undefined) ?? [];
  if (flag === undefined) return;
  throw new CliError('CLI_USAGE', `Cannot use ${flag}: this node mints no credentials of its own`, {
    hint: 'Add --issuer-signing-key SA… --issuer-signing-key-root-account A…',
  });
}

function pair(
  one: string | undefined,
  other: string | undefined,
  [first, second]: [string, string],
): [string, string] | undefined {
  if (one !== undefined && other !== undefined) return [one, other];
  if (one === undefined && other === undefined) return undefined;
  throw new CliError('CLI_USAGE', `Cannot mint credentials: ${first} and ${second} come together`);
}
