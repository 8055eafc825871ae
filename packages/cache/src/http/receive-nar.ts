import { createHash, type Hash } from 'node:crypto';
import { decompress, encodeNixBase32, narHashOf, readNar } from '@nex-nix/nix';
import { ChunkUploader } from '../chunk-uploader.ts';
import { cutChunks } from '../fastcdc.ts';
import type { JetStream } from '../jetstream.ts';
import type { ChunkRef } from '../manifest.ts';
import { TaskGroup } from '../task-group.ts';
import { Refusal } from './refusal.ts';
import type { Compression, NarFile } from './routes.ts';
import type { UploadAlias } from './upload-aliases.ts';

const GZIP_MAGIC = [0x1f, 0x8b];

/**
 * Takes a file with a NAR: decompresses it, reads it strictly, cuts it into chunks, and stores those that the cache lacks, all
 * in one pass and in constant memory. Of a NAR that is not one, or not the file that the name says, chunks may stay, which
 * nothing refers to.
 *
 * @throws {@link Refusal} 422 when the name is not the hash of the file; `NixError` when there is no NAR in it; `CacheError`
 */
export async function receiveNar(
  jetstream: JetStream,
  { file, body, maxNarSize }: { file: NarFile; body: AsyncIterable<Uint8Array>; maxNarSize: number },
  outer: AbortSignal,
): Promise<UploadAlias> {
  const fileHash = createHash('sha256');
  const { compression, source } = await sniff(hashed(body, fileHash), file.compression ?? 'none');
  const narHash = createHash('sha256');
  const nar = checkedNar(hashed(decompress(source, compression, { origin: file.name }), narHash), {
    maxSize: maxNarSize,
    origin: file.name,
  });
  const chunks = await storeChunks(jetstream, nar, outer);
  const digest = encodeNixBase32(fileHash.digest());
  if (digest !== file.hash) {
    throw new Refusal(422, `Cannot take "${file.name}": the hash of what came is ${digest}`);
  }
  const narSize = chunks.reduce((sum, { size }) => sum + size, 0);
  return { compression, manifest: { narHash: narHashOf(narHash.digest()), narSize, chunks } };
}

async function storeChunks(
  jetstream: JetStream,
  nar: AsyncIterable<Uint8Array>,
  outer: AbortSignal,
): Promise<ChunkRef[]> {
  const uploads = new TaskGroup(outer);
  const { signal } = uploads;
  using uploader = new ChunkUploader(jetstream, { signal, onChunk: () => undefined });
  const chunks: ChunkRef[] = [];
  try {
    for await (const bytes of cutChunks(nar)) {
      chunks.push(await uploader.upload(bytes, { uploads, evenIfPresent: false }));
      signal.throwIfAborted();
    }
  } finally {
    uploader.flush();
    await uploads.join();
  }
  return chunks;
}

/** The same bytes, once they were read as a NAR. */
async function* checkedNar(
  source: AsyncIterable<Uint8Array>,
  options: { maxSize: number; origin: string },
): AsyncGenerator<Uint8Array, void, undefined> {
  const read: Uint8Array[] = [];
  const noted = async function* () {
    for await (const bytes of source) {
      read.push(bytes);
      yield bytes;
    }
  };
  for await (const _ of readNar(noted(), options)) yield* read.splice(0);
  yield* read.splice(0);
}

async function* hashed(source: AsyncIterable<Uint8Array>, hash: Hash): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const bytes of source) {
    hash.update(bytes);
    yield bytes;
  }
}

/** Nix gives a NAR that it compressed by gzip the name of one that is not compressed. */
async function sniff(
  body: AsyncGenerator<Uint8Array, void, undefined>,
  named: Compression,
): Promise<{ compression: Compression; source: AsyncIterable<Uint8Array> }> {
  if (named !== 'none') return { compression: named, source: body };
  const first = await body.next();
  const isGzip = first.done !== true && GZIP_MAGIC.every((byte, i) => first.value[i] === byte);
  const source = async function* () {
    try {
      if (first.done !== true) yield first.value;
      yield* body;
    } finally {
      await body.return();
    }
  };
  return { compression: isGzip ? 'gzip' : 'none', source: source() };
}
