import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const NEX = join(import.meta.dirname, '../bin/nex.js');
const TELL = 'process.once("exit",()=>console.log(JSON.stringify([process.execArgv,process.env.MALLOC_ARENA_MAX])))';
const LARGE = ['--max-semi-space-size=2', '--heap-growing-percent=200'];

describe('how the nex command starts', () => {
  /** The options of the process in the end, and what the programs that it starts would find in their environment. */
  const started = async (args: readonly string[], env: NodeJS.ProcessEnv = {}) => {
    const options = `--import=data:text/javascript,${encodeURIComponent(TELL)} ${env['NODE_OPTIONS'] ?? ''}`;
    const own = { PATH: process.env['PATH'], ...env, NODE_OPTIONS: options };
    const { stdout } = await promisify(execFile)(process.execPath, [NEX, ...args, '--help'], { env: own });
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as [string[], string | null];
  };

  it.for([
    [['node', 'up'], LARGE],
    [['cache', 'serve'], LARGE],
    [['cache', 'info'], []],
  ] as const)('%s has the memory of %s, and programs that it starts have that of anybody', async ([args, options]) => {
    expect(await started(args)).toStrictEqual([options, null]);
  });

  it('leaves a size that somebody has set, and their environment', async () => {
    const env = { NODE_OPTIONS: '--max-semi-space-size=16', MALLOC_ARENA_MAX: '4' };
    expect(await started(['cache', 'push'], env)).toStrictEqual([[], '4']);
  });
});
