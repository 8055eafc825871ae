import { once } from 'node:events';
import { duplexPair, type Duplex } from 'node:stream';
import { GuestConnection, type OpenOptions, type Output, type Welcome } from '../src/index.ts';
import { AgentConnection, type AgentOptions } from '../src/agent/agent-connection.ts';
import { FrameDecoder } from '../src/protocol/frame-decoder.ts';
import { encodeGuestMessage } from '../src/protocol/frames.ts';

/** An agent that does nothing of what it is asked for; `options` say what it does. */
export function makeAgent(options: Partial<AgentOptions> = {}): AgentConnection {
  return new AgentConnection({
    version: '1.2.3',
    describe: () => ({ boot: 'boot-1', state: 'idle' }),
    handle: () => undefined,
    ...options,
  });
}

/** A host that is connected to an agent, over a channel of their own. */
export async function connect(agent: AgentConnection, options?: OpenOptions): Promise<GuestConnection> {
  const [near, far] = duplexPair();
  void agent.attach(far);
  return GuestConnection.open(near, options);
}

/** A host, and a guest that says whatever the test wants. */
export async function connectToAnybody(
  welcome: Partial<Welcome> = {},
): Promise<{ host: Promise<GuestConnection>; guest: Duplex }> {
  const [near, guest] = duplexPair();
  const host = GuestConnection.open(near, { timeoutMs: 5000 });
  host.catch(() => undefined);
  const decoder = new FrameDecoder({ sender: 'host', mark: '"type":"hello"' });
  const [bytes] = (await once(guest, 'data')) as [Buffer];
  const [hello] = [...decoder.push(bytes)];
  const { session } = (hello as { value: { session: string } }).value;
  guest.write(
    encodeGuestMessage({
      type: 'welcome',
      version: 1,
      session,
      agent: '1.2.3',
      boot: 'boot-1',
      state: 'running',
      from: { stdout: 0, stderr: 0 },
      ...welcome,
    }),
  );
  return { host, guest };
}

/** All output up to the program's end, acknowledged as it comes. */
export async function collect(
  host: GuestConnection,
  have = { stdout: 0, stderr: 0 },
): Promise<Record<'stdout' | 'stderr', Buffer>> {
  const pieces: Output[] = [];
  const positions = { ...have };
  for await (const output of host.output()) {
    pieces.push(output);
    positions[output.stream] = output.position + output.bytes.length;
    host.ack(positions);
  }
  const of = (name: string) => Buffer.concat(pieces.flatMap(({ stream, bytes }) => (stream === name ? [bytes] : [])));
  return { stdout: of('stdout'), stderr: of('stderr') };
}
