import { readFileSync, writeFileSync } from 'node:fs';
import { Agent } from './agent.ts';
import { openChannel } from './channel.ts';
import type { GuestConfig } from './guest-config.ts';
import { hasCode } from './refused.ts';

/** The agent is what must be there when memory is short: the program goes first. */
function outliveMemoryShortage(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '-1000');
  } catch (error) {
    // Root in a container, where there is no guest to speak of, lacks the right.
    if (!hasCode(error, 'EACCES')) throw error;
    process.stderr.write('Cannot make sure to outlive a shortage of memory: permission denied\n');
  }
}

async function main(file: string | undefined): Promise<void> {
  if (file === undefined) throw new TypeError('Usage: node agent.cjs CONFIG.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as GuestConfig;
  outliveMemoryShortage();
  const agent = new Agent(config);
  await openChannel(config.channel, (stream) => agent.attach(stream));
}

// What fails here ends the agent, and with it the guest.
void main(process.argv[2]);
