import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { OPERATOR } from './nsc/claims.ts';
import { CONTEXTS } from './services/dev-contexts.ts';
import { DevError } from './dev-error.ts';
import { oldLogs } from './supervisor/dev-log.ts';
import { devPaths } from './dev-paths.ts';
import { endOrphans } from './supervisor/end-orphans.ts';
import { lockFolder } from './folder-lock.ts';
import { ensureIdentities } from './nsc/identities.ts';
import { failureOf } from './services/nex-child.ts';
import { operatorFiles } from './nsc/nsc-files.ts';
import { NscStore } from './nsc/nsc-store.ts';
import { serverPaths } from './services/server-config.ts';

export interface WipeOptions {
  /** Only tells what would go. @default false */
  dryRun?: boolean | undefined;
  /** How nex is run: clears away what a node has left running. Needed where a node was. */
  command?: readonly string[] | undefined;
}

/**
 * Removes what dev services have made in a data folder, and makes new identities. Other files stay, and so does a store of nsc whose operator is
 * somebody's own. Resolves with the paths that went, folders with all that was in them.
 *
 * @throws {DevError} DEVENV_ALREADY_RUNNING, DEVENV_WIPE_REFUSED, DEVENV_STORE_INVALID
 */
export async function wipe(dataDir: string, { dryRun = false, command }: WipeOptions = {}): Promise<string[]> {
  const folder = resolve(dataDir);
  const paths = devPaths(folder);
  if (dryRun && !existsSync(paths.nats)) return ownPaths(folder);
  using _lock = await lockFolder(paths.lock, folder);
  if (dryRun) return ownPaths(folder);
  await endOrphans(folder);
  if (existsSync(paths.node)) await clearNode(paths.node, command);
  const own = await ownPaths(folder);
  await refuseMounts(own);
  for (const path of own) await rm(path, { recursive: true, force: true });
  await ensureIdentities(await NscStore.open(paths.nsc, OPERATOR), () => undefined);
  return own;
}

/** Sandboxes of a node that was killed hold mounts, cgroups and interfaces: only their runtime knows how to take them down. */
async function clearNode(stateDir: string, command: readonly string[] | undefined): Promise<void> {
  if (command === undefined) throw refused(stateDir, 'a node may have left workloads in it');
  const [program = '', ...args] = command;
  try {
    await promisify(execFile)(program, [...args, '--json', 'clean', '--state-dir', stateDir]);
  } catch (cause) {
    const { stdout = '' } = cause as { stdout?: string };
    throw refused(stateDir, failureOf(stdout)?.message ?? (cause as Error).message, cause);
  }
}

/** What is mounted is somewhere else, and would be removed there. */
async function refuseMounts(own: readonly string[]): Promise<void> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8'))
    .split('\n')
    .map((line) => unescape(line.split(' ')[4] ?? ''));
  for (const path of own) {
    const mount = mounts.find((point) => point === path || point.startsWith(`${path}/`));
    if (mount !== undefined) throw refused(path, `something is mounted on "${mount}"`);
  }
}

/** As in /proc/self/mountinfo: space, tab, newline and backslash are octal (proc(5)). */
function unescape(text: string): string {
  return text.replaceAll(/\\(\d{3})/g, (_, digits: string) => String.fromCodePoint(Number.parseInt(digits, 8)));
}

function refused(path: string, why: string, cause?: unknown): DevError {
  return new DevError('DEVENV_WIPE_REFUSED', `Cannot remove "${path}": ${why}`, {
    hint: `See what is there: nex clean --dry-run --state-dir ${path}`,
    cause,
  });
}

/** What there is of ours; a folder where it holds nothing else. */
async function ownPaths(dataDir: string): Promise<string[]> {
  const paths = devPaths(dataDir);
  const { pid, ports, jetstream, jwt, config } = serverPaths(paths.nats);
  const files = [
    [paths.cacheKey, paths.cacheToken, paths.cacheNetrc],
    [pid, ports, jetstream, jwt, config, join(paths.nats, 'nats-server.log')],
    Object.keys(CONTEXTS).map((name) => join(paths.contexts, `${name}.json`)),
    [paths.log, ...oldLogs(paths.log), join(paths.logs, 'background.log')],
    await ownIdentities(paths.nsc),
  ];
  const own = new Set(files.flat());
  const singles = [paths.socket, paths.ports, paths.node].filter((path) => existsSync(path));
  const found = await Promise.all([paths.nsc, paths.nats, paths.cache, paths.logs].map((folder) => ownIn(folder, own)));
  return [...singles, ...found.flatMap((part) => part.own)].toSorted();
}

/** Operator, accounts and users, if the operator is ours: who brought an operator of their own has more of it than what lies here. */
async function ownIdentities(folder: string): Promise<string[]> {
  const store = await NscStore.open(folder, OPERATOR);
  return store.operator === OPERATOR ? operatorFiles(store) : [];
}

/** Those of `own` that are in a folder; itself when there is nothing else. Links are not followed. */
async function ownIn(folder: string, own: ReadonlySet<string>): Promise<{ own: string[]; isAll: boolean }> {
  const found: string[] = [];
  let isAll = true;
  for (const entry of await entriesOf(folder)) {
    const path = join(folder, entry.name);
    const below = own.has(path)
      ? { own: [path], isAll: true }
      : entry.isDirectory()
        ? await ownIn(path, own)
        : undefined;
    if (below?.isAll !== true) isAll = false;
    found.push(...(below?.own ?? []));
  }
  return isAll && found.length > 0 ? { own: [folder], isAll } : { own: found, isAll: isAll && found.length > 0 };
}

async function entriesOf(folder: string) {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
