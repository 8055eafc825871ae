import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { headers, type NatsConnection } from '@nats-io/nats-core';
import type { TestNatsServer } from '@nex-nix/test-kit';

const STREAM = 'NIX_CHUNKS';

/** The names of all stored chunks. */
export async function chunkIds(nc: NatsConnection): Promise<string[]> {
  const { state } = await (await jetstreamManager(nc)).streams.info(STREAM, { subjects_filter: 'nixc.>' });
  return Object.keys(state.subjects ?? {}).map((subject) => subject.split('.')[2] ?? '');
}

export async function deleteChunk(nc: NatsConnection, chunk: string): Promise<void> {
  const jsm = await jetstreamManager(nc);
  const message = await jsm.direct.getMessage(STREAM, { last_by_subj: subjectOf(chunk) });
  await jsm.streams.deleteMessage(STREAM, message?.seq ?? 0);
}

/**
 * Puts other bytes under the name of a stored chunk.
 * @param codec - what its header says; empty leaves out the headers.
 */
export async function replaceChunk(nc: NatsConnection, chunk: string, body: Uint8Array, codec = 'raw'): Promise<void> {
  await deleteChunk(nc, chunk);
  const head = headers();
  if (codec !== '') head.set('Nix-Codec', codec);
  if (codec !== '') head.set('Nix-Len', String(body.length));
  await jetstream(nc).publish(subjectOf(chunk), body, { headers: head });
}

/** Flips a bit of what the server has on disk, in the middle of the bytes `content`, and restarts it. */
export async function flipOnDisk(server: TestNatsServer, content: Buffer): Promise<void> {
  const folder = server.storeDir;
  const files = await readdir(folder, { recursive: true });
  let flipped = 0;
  for (const name of files.filter((file) => file.includes(STREAM) && file.endsWith('.blk'))) {
    const bytes = await readFile(join(folder, name));
    const at = bytes.indexOf(content);
    if (at === -1) continue;
    const middle = at + Math.floor(content.length / 2);
    bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle);
    await writeFile(join(folder, name), bytes);
    flipped++;
  }
  if (flipped !== 1) throw new Error(`the bytes are in ${flipped} files of JetStream`);
  // In good order: after a crash this server reads its blocks again, and drops a damaged one as a whole.
  await server.restart('SIGTERM');
}

function subjectOf(chunk: string): string {
  return `nixc.${chunk.slice(0, 2)}.${chunk}`;
}
