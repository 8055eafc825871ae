import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Duplex, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createBrotliCompress, createGzip } from 'node:zlib';
import { compressor } from '@nex-nix/nix';
import { CacheError } from '../errors.ts';
import type { Compression } from './routes.ts';

type Program = readonly [command: string, ...args: string[]];

/** What is compressed is old content for one machine that asks by an old name: fast is better than small. */
const FASTEST_BROTLI = { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } };
/** Of what a program says on stderr, for the message. */
const COMPLAINT_MAX = 300;

/** Compresses, in constant memory. zstd is not among it: chunks are stored that way. */
export async function* encode(
  source: AsyncIterable<Uint8Array>,
  compression: Exclude<Compression, 'zstd' | 'none'>,
): AsyncGenerator<Uint8Array> {
  switch (compression) {
    case 'xz':
      return yield* throughCodec(source, await compressor({ compression, level: 0 }));
    case 'bzip2':
      // No library that is kept writes it.
      return yield* throughProgram(source, ['bzip2', '-1cq']);
    case 'gzip':
      return yield* throughCodec(source, createGzip({ level: 1 }));
    case 'br':
      return yield* throughCodec(source, createBrotliCompress(FASTEST_BROTLI));
  }
}

async function* throughCodec(source: AsyncIterable<Uint8Array>, codec: Duplex): AsyncGenerator<Uint8Array> {
  const feeding = feed(source, codec);
  try {
    for await (const bytes of codec) yield bytes as Buffer;
  } catch (cause) {
    const failure = (await feeding) ?? cause;
    throw failure === cause ? failed(cause instanceof Error ? cause.message : String(cause), cause) : failure;
  } finally {
    codec.destroy();
    await feeding;
  }
}

async function* throughProgram(source: AsyncIterable<Uint8Array>, program: Program): AsyncGenerator<Uint8Array> {
  const [command, ...args] = program;
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const ended = exit(child);
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(0, COMPLAINT_MAX);
  });
  const feeding = feed(source, child.stdin);
  try {
    for await (const bytes of child.stdout) yield bytes as Buffer;
    const { error, code } = await ended;
    const failure = await feeding;
    if (failure !== undefined) throw failure;
    if (error !== undefined) throw failed(`the program ${command} cannot be run (${error.message})`, error);
    if (code !== 0) throw failed(complaint.trim() || `${command} ended with exit code ${code}`);
  } finally {
    child.kill('SIGKILL');
    await ended;
    await feeding;
  }
}

/** Writes `source` to the end; resolves with what `source` itself failed with, if it did. */
async function feed(source: AsyncIterable<Uint8Array>, into: NodeJS.WritableStream): Promise<unknown> {
  let failure: unknown;
  const read = async function* () {
    let isRead = false;
    try {
      for await (const bytes of source) {
        isRead = true;
        yield bytes;
        isRead = false;
      }
    } catch (error) {
      // What the other side fails with is thrown into what it reads from, too.
      if (!isRead) failure = error;
      throw error;
    }
  };
  // That the other side takes no more is told by how it ends.
  await pipeline(Readable.from(read(), { objectMode: false }), into).catch(() => undefined);
  return failure;
}

async function exit(child: ReturnType<typeof spawn>): Promise<{ error?: Error; code?: number | null }> {
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    return { code };
  } catch (error) {
    return { error: error as Error };
  }
}

function failed(why: string, cause?: unknown): CacheError {
  return new CacheError('CACHE_COMPRESSION_FAILED', `Cannot compress a NAR: ${why}`, {
    cause,
    hint: 'Copy with another compression: nix copy --to "URL?compression=zstd"',
  });
}
