import { randomUUID } from 'node:crypto';
import type { NatsConnection } from '@nats-io/nats-core';
import { toPublicError } from '@nex-nix/errors';
import type { Context } from '../context.ts';
import { formatBytes } from '../output.ts';
import type { Group, Item } from './group.ts';

/** How far apart clocks may be: credentials that are minted now must not be of the future elsewhere. */
const MAX_SKEW_MS = 5_000;

const TIMEOUT_MS = 3_000;

/** Whether the NATS server that the options name is there, has JetStream, and the same time. */
export function natsGroup(context: Context): Group {
  return {
    title: 'NATS',
    look: async () => {
      try {
        const nc = await context.connect();
        const detail = `${nc.getServer()}, nats-server ${nc.info?.version ?? 'of an unknown version'}`;
        const connection = { name: 'NATS server', met: true, essential: true, detail };
        return { folders: [], items: [connection, ...(await jetStreamItems(context, nc))] };
      } catch (error) {
        const { message, hint } = toPublicError(error);
        const missing = { name: 'NATS server', met: false, essential: true, detail: message };
        return { folders: [], items: [{ ...missing, hint: hint ?? 'Start one for this machine: nex dev' }] };
      }
    },
  };
}

/** Answers of JetStream's API, as far as they are of use here. */
interface Answer {
  readonly error?: { readonly description?: string };
  readonly memory?: number;
  readonly storage?: number;
  readonly created?: string;
  readonly streams?: readonly { readonly ts?: string }[];
}

async function jetStreamItems(context: Context, nc: NatsConnection): Promise<Item[]> {
  const name = 'JetStream';
  const domain = context.connection.jetstreamDomain;
  const prefix = domain === undefined ? '$JS.API' : `$JS.${domain}.API`;
  const ask: Ask = async (subject, payload) => {
    const text = payload === undefined ? '' : JSON.stringify(payload);
    const reply = await nc.request(`${prefix}.${subject}`, text, { timeout: TIMEOUT_MS });
    return { answer: reply.json<Answer>(), time: Date.now() };
  };
  try {
    const { answer } = await ask('INFO');
    if (answer.error !== undefined) throw new Error(answer.error.description ?? 'JetStream refused to answer');
    const used = formatBytes((answer.memory ?? 0) + (answer.storage ?? 0));
    const item = { name, met: true, essential: true, detail: `on, ${used} are used in this account` };
    return [item, ...clockItem((await toldByList(ask)) ?? (await toldByStream(ask)))];
  } catch (error) {
    const detail = `it does not answer: ${error instanceof Error ? error.message : String(error)}`;
    const hint = 'Start nats-server with --jetstream, and give the account JetStream limits';
    return [{ name, met: false, essential: true, detail, hint }];
  }
}

type Ask = (subject: string, payload?: object) => Promise<{ answer: Answer; time: number }>;

/** What the server's clock says, and what ours did at that moment. */
interface Told {
  theirs: string;
  ours: number;
}

/** Servers tell their time with each stream, since 2.10. */
async function toldByList(ask: Ask): Promise<Told | undefined> {
  const { answer, time } = await ask('STREAM.LIST');
  const theirs = answer.streams?.find(({ ts }) => ts !== undefined)?.ts;
  return theirs === undefined ? undefined : { theirs, ours: time };
}

/** Others, and those without streams, tell when one was made: one in memory, of a subject of its own, which goes at once. */
async function toldByStream(ask: Ask): Promise<Told | undefined> {
  const name = `NEX_PREFLIGHT_${randomUUID().replaceAll('-', '')}`;
  const { answer, time } = await ask(`STREAM.CREATE.${name}`, {
    name,
    subjects: [name],
    storage: 'memory',
    max_msgs: 1,
  });
  if (answer.created === undefined) return undefined;
  await ask(`STREAM.DELETE.${name}`);
  return { theirs: answer.created, ours: time };
}

/** Where nobody tells, as without the right to make streams, nothing can be said. */
function clockItem(told: Told | undefined): Item[] {
  if (told === undefined) return [];
  const skew = Math.abs(Date.parse(told.theirs) - told.ours);
  const clock = { name: 'clock', essential: true, detail: `${skew} ms apart from that of the NATS server` };
  return skew <= MAX_SKEW_MS
    ? [{ ...clock, met: true }]
    : [{ ...clock, met: false, hint: 'Keep the clocks of both by NTP: timedatectl set-ntp true' }];
}
