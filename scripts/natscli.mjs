// The command "nats" (natscli), built by go install beside the system's programs. Only tests need it.
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { TOOLS } from './newest-debian.mjs';
import { runToEnd } from './run.mjs';
import { find, say } from './system-tools.mjs';

const MODULE = 'github.com/nats-io/natscli/nats@v0.4.0';
/** Two idle cores need about 80 s for it. */
const TIMEOUT = '300';

/** Builds it where it is absent and can be built; says so where it cannot: the tests that need it are skipped by name. */
export async function installNatscli() {
  const bin = join(TOOLS, 'bin');
  if (find('nats') !== undefined || existsSync(join(bin, 'nats')) || find('go') === undefined) return;
  say('Building natscli for the tests (go install) …');
  mkdirSync(bin, { recursive: true });
  const output = [];
  const env = { ...process.env, GOBIN: bin, GOFLAGS: '-buildvcs=false' };
  if ((await runToEnd('timeout', [TIMEOUT, 'go', 'install', MODULE], { env, output })) === 0) return;
  const why = Buffer.concat(output).toString().trim().split('\n').at(-1);
  say(`Cannot build natscli, tests that need it are skipped: ${why}`);
}
