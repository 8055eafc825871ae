import { createHash, type Hash } from 'node:crypto';
import {
  decompress,
  encodeNixBase32,
  NarHasher,
  NarParser,
  type NarParserOptions,
  type NarVisitor,
} from '@nex-nix/nix';
import { ChunkUploader } from '../push/chunk-uploader.ts';
import { cutChunks } from '../chunks/fastcdc.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import type { ChunkRef } from '../manifests/manifest.ts';
import { releaseMemory } from '../tasks/own-memory.ts';
import { Refusal } from './refusal.ts';
import type { Compression, NarFile } from './routes.ts';
import type { UploadAlias } from './upload-aliases.ts';
import { UploadNormaliser } from './upload-normaliser.ts';

const GZIP_MAGIC = [0x1f, 0x8b];
/** That it is a NAR is all that matters. */
const IGNORE: NarVisitor = {
  directory: () => undefined,
  directoryEnd: () => undefined,
  symlink: () => undefined,
  file: () => undefined,
  data: () => undefined,
  fileEnd: () => undefined,
};

/** A file that comes. */
interface Upload {
  readonly file: NarFile;
  readonly body: AsyncGenerator<Uint8Array, void, undefined>;
  /** In bytes. */
  readonly maxNarSize: number;
  readonly normalise: boolean;
}

/**
 * Takes a file with a NAR: decompresses it, reads it strictly, cuts it into chunks, and stores those that the cache lacks, all
 * in one pass and in constant memory. Of a NAR that is not one, or not the file that the name says, chunks may stay, which
 * nothing refers to.
 *
 * @param upload.normalise - whether store hashes are blanked before it is cut.
 * @throws {@link Refusal} 422 when the name is not the hash of the file; `NixError` when there is no NAR in it; `CacheError`
 */
export async function receiveNar(
  jetstream: JetStream,
  { file, body, maxNarSize, normalise }: Upload,
  outer: AbortSignal,
): Promise<UploadAlias> {
  const { compression, source } = await sniff(body, file.compression ?? 'none');
  using narHasher = new NarHasher();
  // Of a file that is the NAR itself there is one hash.
  const fileHash = compression === 'none' ? undefined : createHash('sha256');
  const content =
    fileHash === undefined
      ? released(source)
      : decompress(hashed(source, fileHash), compression, { origin: file.name });
  const nar = checkedNar(narHasher.hashed(content), { maxSize: maxNarSize, origin: file.name });
  const normaliser = normalise ? new UploadNormaliser() : undefined;
  const chunks = await storeChunks(jetstream, normaliser?.normalise(nar) ?? nar, outer);
  const narHash = await narHasher.digest();
  const digest = fileHash === undefined ? narHash.slice('sha256:'.length) : encodeNixBase32(fileHash.digest());
  if (digest !== file.hash) {
    throw new Refusal(422, `Cannot take "${file.name}": the hash of what came is ${digest}`);
  }
  const narSize = chunks.reduce((sum, { size }) => sum + size, 0);
  const manifest = { narHash, narSize, chunks };
  return { compression, manifest: { ...manifest, mentions: normaliser?.mentions() } };
}

async function storeChunks(
  jetstream: JetStream,
  nar: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<ChunkRef[]> {
  using uploader = new ChunkUploader(jetstream, { signal });
  return await uploader.upload(cutChunks(nar), { evenIfPresent: false });
}

/** The same bytes, once they were read as a NAR. */
async function* checkedNar(
  source: AsyncIterable<Uint8Array>,
  options: NarParserOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const parser = new NarParser(IGNORE, options);
  for await (const bytes of source) {
    parser.write(bytes);
    yield bytes;
  }
  parser.end();
}

async function* hashed(source: AsyncIterable<Uint8Array>, hash: Hash): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const bytes of source) {
    hash.update(bytes);
    yield bytes;
  }
}

/** The same pieces, whose memory is given back once the next one is asked for. */
async function* released(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const bytes of source) {
    yield bytes;
    releaseMemory(bytes);
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
