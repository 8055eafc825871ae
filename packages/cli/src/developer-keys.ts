import { randomUUID } from 'node:crypto';
import { chmod, link, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { nkeys } from '@nats-io/nats-core';
import { CliError } from './cli-error.ts';

type KeyPair = ReturnType<typeof nkeys.createCurve>;

/** Who publishes from this machine. */
export interface DeveloperKeys {
  /** Account key that names the publisher. */
  readonly issuer: KeyPair;
  /** Curve key that seals environments. */
  readonly publisher: KeyPair;
}

interface KeyKind {
  readonly what: string;
  readonly prefix: string;
  create(): KeyPair;
}

const ISSUER: KeyKind = { what: 'issuer account key', prefix: 'SA', create: () => nkeys.createAccount() };
const PUBLISHER: KeyKind = { what: 'publisher xkey', prefix: 'SX', create: () => nkeys.createCurve() };

const OTHERS = 0o077;

/**
 * The keys in `~/.nex`: `issuer.nk` and `publisher.xk`, made at the first use as Nex 0.1 does, and reused then.
 *
 * @param say - told which keys were made or reused.
 * @throws {CliError} CLI_KEY_INVALID
 */
export async function developerKeys(say: (text: string) => void): Promise<DeveloperKeys> {
  const folder = join(process.env['HOME'] || homedir(), '.nex');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return {
    issuer: await reuseOrCreate(join(folder, 'issuer.nk'), ISSUER, say),
    publisher: await reuseOrCreate(join(folder, 'publisher.xk'), PUBLISHER, say),
  };
}

/** The issuer key of a file. Errors: `CliError` CLI_KEY_INVALID. */
export async function readIssuer(file: string): Promise<KeyPair> {
  return readKey(file, ISSUER);
}

/** The curve key of a file. Errors: `CliError` CLI_KEY_INVALID. */
export async function readPublisher(file: string): Promise<KeyPair> {
  return readKey(file, PUBLISHER);
}

async function reuseOrCreate(file: string, kind: KeyKind, say: (text: string) => void): Promise<KeyPair> {
  const pair = kind.create();
  try {
    await createWhole(file, pair.getSeed());
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const found = await readKey(file, kind);
    // Nex 0.1 left them readable for the group.
    if (((await stat(file)).mode & OTHERS) !== 0) await chmod(file, 0o600);
    say(`Reusing existing ${kind.what}: ${file}`);
    return found;
  }
  say(`Wrote new ${kind.what}: ${file}`);
  return pair;
}

/** Two that start at once end up with the same key, and neither reads half of it. Fails with EEXIST when the file is there. */
async function createWhole(file: string, content: Uint8Array): Promise<void> {
  const temporary = `${file}.${randomUUID()}`;
  try {
    await writeFile(temporary, content, { flag: 'wx', mode: 0o600 });
    await link(temporary, file);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function readKey(file: string, { what, prefix }: KeyKind): Promise<KeyPair> {
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const why = cause.code === 'ENOENT' ? 'there is no such file' : cause.message;
    throw new CliError('CLI_KEY_INVALID', `Cannot read the ${what} in "${file}": ${why}`, { cause });
  });
  try {
    const seed = new TextEncoder().encode(text.trim());
    const pair = prefix === 'SX' ? nkeys.fromCurveSeed(seed) : nkeys.fromSeed(seed);
    if (text.trim().startsWith(prefix)) return pair;
  } catch {
    // What the library says of a bad seed is of no use to anybody, and may hold a part of it.
  }
  throw new CliError(
    'CLI_KEY_INVALID',
    `Cannot use the ${what} in "${file}": it is not a seed that begins with ${prefix}`,
    {
      hint: `Move the file away, and nex devrun makes a new one`,
    },
  );
}
