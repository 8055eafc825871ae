import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { bundleAgent } from '../bundle-agent.ts';

it('the agent is one file that runs on Node alone and knows its version', async () => {
  await using dir = await tempDir('nex-bundle-');
  const file = join(dir.path, 'agent.cjs');
  await bundleAgent(file);
  const { status, stderr } = spawnSync(process.execPath, [file], { cwd: dir.path, env: {}, encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toContain('Usage: node agent.cjs CONFIG.json');
  const code = await readFile(file, 'utf8');
  const needed = [...code.matchAll(/require\("(?:node:)?([^"]+)"\)/g)].map(([, name = '']) => name);
  expect(needed.filter((name) => !builtinModules.includes(name))).toEqual([]);
  const { version } = JSON.parse(await readFile(join(import.meta.dirname, '../package.json'), 'utf8')) as {
    version: string;
  };
  expect(code).toContain(`"${version}"`);
});
