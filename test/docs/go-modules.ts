import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { findTool, tempDir } from '@nex-nix/test-kit';

/** What pages get by go get. */
const MODULES = ['github.com/nats-io/nats.go@v1.52.0'];

/**
 * Has the modules that pages need in this user's Go cache, and returns the variables by which a go without network finds
 * them there. None where there is no go.
 */
export async function goEnvironment(): Promise<Record<string, string>> {
  const go = findTool('go');
  if (go === undefined) return {};
  await using folder = await tempDir('nex-docs-go-');
  const run = async (...args: string[]) => (await promisify(execFile)(go, args, { cwd: folder.path })).stdout;
  await run('mod', 'init', 'example');
  await run('get', ...MODULES);
  const { GOCACHE = '', GOMODCACHE = '' } = JSON.parse(
    await run('env', '-json', 'GOCACHE', 'GOMODCACHE'),
  ) as NodeJS.ProcessEnv;
  return { GOCACHE, GOMODCACHE, GOPROXY: `file://${GOMODCACHE}/cache/download`, GOSUMDB: 'off', GOTOOLCHAIN: 'local' };
}
