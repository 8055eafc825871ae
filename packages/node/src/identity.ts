import { link, mkdir, readFile, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createCurve, createServer, fromCurveSeed, fromSeed, type KeyPair } from '@nats-io/nkeys';
import { newId } from '@nex-nix/protocol';
import { NodeError } from './node-error.ts';

/** Who a node is. */
export interface NodeIdentity {
  /** Public server key, `N…`. */
  readonly id: string;
  /** Public curve key, `X…`. */
  readonly xkey: string;
  /** The curve key as a pair: opens what is sealed for the node. */
  readonly xkeyPair: KeyPair;
}

/** Seeds that take the place of those in the file. */
export interface GivenSeeds {
  /** Of a server key, `SN…`. */
  readonly nodeSeed?: string | undefined;
  /** Of a curve key, `SX…`. */
  readonly xkeySeed?: string | undefined;
}

/**
 * The identity of a node: of the seeds that are given, and of {@link keptSeeds} for what is not.
 *
 * @throws {NodeError} NODE_IDENTITY_INVALID, NODE_OPTION_INVALID
 */
export async function loadIdentity(stateDir: string, given: GivenSeeds = {}): Promise<NodeIdentity> {
  if (given.nodeSeed !== undefined) checkSeed(given.nodeSeed, 'node', 'SN');
  if (given.xkeySeed !== undefined) checkSeed(given.xkeySeed, 'xkey', 'SX');
  const complete = given.nodeSeed !== undefined && given.xkeySeed !== undefined;
  const kept = complete ? undefined : await keptSeeds(stateDir);
  return identityOf(given.nodeSeed ?? kept?.[0] ?? '', given.xkeySeed ?? kept?.[1] ?? '');
}

/**
 * The seeds kept in `<stateDir>/identity`, made when there is none. The file (mode 0600) holds two lines:
 * the seed of a server nkey and the seed of a curve key.
 *
 * @throws {NodeError} NODE_IDENTITY_INVALID
 */
async function keptSeeds(stateDir: string): Promise<[string, string]> {
  const file = join(stateDir, 'identity');
  const found = await readIfThere(file);
  if (found !== undefined) return parseIdentity(found, file);
  await mkdir(stateDir, { recursive: true });
  const seeds = [createServer(), createCurve()].map((pair) => new TextDecoder().decode(pair.getSeed()));
  const text = `${seeds.join('\n')}\n`;
  return parseIdentity(await createOnce(file, text), file);
}

/** Puts a whole file in place, or returns the one that somebody else put there first. */
async function createOnce(file: string, text: string): Promise<string> {
  const draft = `${file}.${newId()}`;
  await writeFile(draft, text, { mode: 0o600, flag: 'wx' });
  try {
    await link(draft, file);
    return text;
  } catch (error) {
    if (!isSystemError(error, 'EEXIST')) throw error;
    return await readFile(file, 'utf8');
  } finally {
    await unlink(draft);
  }
}

function parseIdentity(text: string, file: string): [string, string] {
  const [server = '', curve = ''] = text.split('\n');
  try {
    if (!identityOf(server, curve).id.startsWith('N'))
      throw new Error('the first line is not the seed of a server key');
    return [server, curve];
  } catch (cause) {
    throw new NodeError('NODE_IDENTITY_INVALID', `Cannot use node identity "${file}": it does not hold two key seeds`, {
      cause,
      hint: `Remove it, and the node takes a new identity: rm ${file}`,
    });
  }
}

function identityOf(serverSeed: string, curveSeed: string): NodeIdentity {
  const encoder = new TextEncoder();
  const xkeyPair = fromCurveSeed(encoder.encode(curveSeed));
  const id = fromSeed(encoder.encode(serverSeed)).getPublicKey();
  return { id, xkey: xkeyPair.getPublicKey(), xkeyPair };
}

function checkSeed(seed: string, what: string, prefix: 'SN' | 'SX'): void {
  const refusal = `Cannot use the ${what} seed: it is not one of a ${prefix === 'SN' ? 'server' : 'curve'} key (${prefix}…)`;
  const hint = `Make one: nk -gen ${prefix === 'SN' ? 'server' : 'curve'}`;
  if (!seed.startsWith(prefix)) throw new NodeError('NODE_OPTION_INVALID', refusal, { hint });
  try {
    (prefix === 'SN' ? fromSeed : fromCurveSeed)(new TextEncoder().encode(seed));
  } catch (cause) {
    throw new NodeError('NODE_OPTION_INVALID', refusal, { cause, hint });
  }
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function isSystemError(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
