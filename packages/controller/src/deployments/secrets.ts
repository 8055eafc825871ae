import {
  createXKey,
  EncryptedEnvironment,
  openEnvironment,
  ProtocolError,
  sealEnvironment,
  seedOfXKey,
  xkeyOfSeed,
} from '@nex-nix/protocol';
import { type Static, Type } from 'typebox';
import { ControllerError } from '../controller-error.ts';

/** A curve key pair. */
export type XKey = ReturnType<typeof createXKey>;

export const DeploymentKeysSchema = Type.Object({
  uid: Type.String(),
  /** Public curve key of the deployment: environments are sealed for it. */
  xkey: Type.String(),
  /** Its seed, sealed for each controller: `{ "<public curve key>": sealed { seed } }`. */
  seeds: Type.Record(Type.String(), EncryptedEnvironment),
});
/**
 * Who may open the environments of a deployment. They are sealed once, for a key that only the deployment has, and the
 * seed of that key for everybody who may have to place replicas: a change of either does not touch the other.
 */
export type DeploymentKeys = Static<typeof DeploymentKeysSchema>;

/** Keys of controllers that are gone are kept up to this number: they may come back. */
const MAX_SEEDS = 256;

/** A new key for a deployment, which the owners of `recipients` may use. */
export function createDeploymentKeys(uid: string, recipients: Iterable<string>): DeploymentKeys {
  const pair = createXKey();
  return { uid, xkey: pair.getPublicKey(), seeds: sealSeed(pair, recipients) };
}

/** Seals an environment so that whoever may use the key of the deployment can open it. */
export function sealForDeployment(
  { xkey }: DeploymentKeys,
  environment: Readonly<Record<string, string>>,
): EncryptedEnvironment {
  return sealEnvironment(environment, { sender: createXKey(), recipient: xkey });
}

/**
 * The key of the deployment.
 *
 * @throws {ControllerError} DEPLOYMENT_SEALED when it is not sealed for `own`
 */
export function openDeploymentKey({ seeds }: DeploymentKeys, own: XKey | undefined): XKey {
  const sealed = own === undefined ? undefined : seeds[own.getPublicKey()];
  const hint = 'A controller that can open it hands it on: start one of the nodes that were there when it was made';
  if (own === undefined || sealed === undefined) {
    const who = own === undefined ? 'this controller has no key' : `not for the key ${own.getPublicKey()}`;
    const message = `Cannot open its environment: it is sealed for ${Object.keys(seeds).length} controllers, ${who}`;
    throw new ControllerError('DEPLOYMENT_SEALED', message, { hint });
  }
  return opened(() => xkeyOfSeed(openEnvironment(sealed, own)['seed'] ?? ''), hint);
}

/** @throws {ControllerError} DEPLOYMENT_SEALED */
export function openForDeployment(environment: EncryptedEnvironment, key: XKey): Record<string, string> {
  return opened(() => openEnvironment(environment, key), 'Give the environment again with an update');
}

/** The same keys, for `present` controllers too; undefined when all of them can use it already. */
export function shareDeploymentKey(
  keys: DeploymentKeys,
  key: XKey,
  present: ReadonlySet<string>,
): DeploymentKeys | undefined {
  const joined = [...present].filter((xkey) => !Object.hasOwn(keys.seeds, xkey));
  if (joined.length === 0) return undefined;
  const known = Object.entries(keys.seeds);
  const kept = known.length < MAX_SEEDS ? known : known.filter(([xkey]) => present.has(xkey));
  return { ...keys, seeds: { ...Object.fromEntries(kept), ...sealSeed(key, joined) } };
}

function sealSeed(pair: XKey, recipients: Iterable<string>): Record<string, EncryptedEnvironment> {
  const secret = { seed: seedOfXKey(pair) };
  return Object.fromEntries(
    [...recipients].map((recipient) => [recipient, sealEnvironment(secret, { sender: createXKey(), recipient })]),
  );
}

function opened<T>(open: () => T, hint: string): T {
  try {
    return open();
  } catch (cause) {
    if (!(cause instanceof ProtocolError)) throw cause;
    throw new ControllerError('DEPLOYMENT_SEALED', `Cannot open its environment: ${cause.message}`, { cause, hint });
  }
}
