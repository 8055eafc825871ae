import { promisify } from 'node:util';
import { zstdCompress, zstdDecompress } from 'node:zlib';
import { type StorePath, storePathBaseName } from '@nex-nix/nix';
import { attempt, type JetStream, lastMessage } from '../jetstream/jetstream.ts';
import { LOG_STREAM, logSubject } from '../jetstream/layout.ts';
import { maxBody } from '../jetstream/payload.ts';
import { Refusal } from './refusal.ts';

/** Bytes that a build log may have, uncompressed. */
export const LOG_SIZE_MAX = 16 * 1024 * 1024;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** Keeps the log of a build: a line with the base name of the derivation, then the text as a zstd frame. */
export async function putLog(
  { nc, js }: JetStream,
  { derivation, text }: { derivation: StorePath; text: Uint8Array },
  signal: AbortSignal,
): Promise<void> {
  const body = Buffer.concat([Buffer.from(`${storePathBaseName(derivation)}\n`), await compress(text)]);
  if (body.length > maxBody(nc)) {
    throw new Refusal(413, `Cannot keep the log of "${derivation}": compressed it has ${body.length} bytes`);
  }
  await attempt(nc, { action: `store the log of "${derivation}"`, signal }, () =>
    js.publish(logSubject(derivation), body),
  );
}

/** The log of a build, or undefined when there is none. */
export async function getLog(
  jetstream: JetStream,
  derivation: StorePath,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  const where = { stream: LOG_STREAM, subject: logSubject(derivation) };
  const message = await lastMessage(jetstream, where, { action: `look up the log of "${derivation}"`, signal });
  if (message === undefined) return undefined;
  const data = Buffer.from(message.data);
  const end = data.indexOf('\n');
  if (data.toString('utf8', 0, end) !== storePathBaseName(derivation)) return undefined;
  return decompress(data.subarray(end + 1), { maxOutputLength: LOG_SIZE_MAX });
}
