import { link, mkdir, readFile, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createCurve, createServer, fromCurveSeed, fromSeed } from '@nats-io/nkeys';
import { newId } from '@nex-nix/protocol';
import { NodeError } from './node-error.ts';

/** Who a node is: the public halves of its two keys. */
export interface NodeIdentity {
  /** Server key, `N…`. */
  readonly id: string;
  /** Curve key, `X…`. */
  readonly xkey: string;
}

/**
 * The identity kept in `<stateDir>/identity`, made when there is none. The file (mode 0600) holds two lines:
 * the seed of a server nkey and the seed of a curve key.
 *
 * @throws {NodeError} NODE_IDENTITY_INVALID
 */
export async function loadIdentity(stateDir: string): Promise<NodeIdentity> {
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

function parseIdentity(text: string, file: string): NodeIdentity {
  const [server = '', curve = ''] = text.split('\n');
  const encoder = new TextEncoder();
  try {
    const id = fromSeed(encoder.encode(server)).getPublicKey();
    if (!id.startsWith('N')) throw new Error('the first line is not the seed of a server key');
    return { id, xkey: fromCurveSeed(encoder.encode(curve)).getPublicKey() };
  } catch (cause) {
    throw new NodeError('NODE_IDENTITY_INVALID', `Cannot use node identity "${file}": it does not hold two key seeds`, {
      cause,
      hint: `Remove it, and the node takes a new identity: rm ${file}`,
    });
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
