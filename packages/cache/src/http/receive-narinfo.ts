import { type NarInfo, NixError, parseNarInfo, storePathHash } from '@nex-nix/nix';
import { call } from '../protocol/call.ts';
import { cacheNarInfo, encodeEntries, makeEntry } from '../manifests/entry.ts';
import { CacheError } from '../errors.ts';
import type { JetStream } from '../jetstream/jetstream.ts';
import { SUBJECTS } from '../protocol/protocol.ts';
import { checkManifest } from './damage-reports.ts';
import type { KnownNar, NarIndex } from './nar-index.ts';
import { Refusal } from './refusal.ts';
import { narFileOf, type NarFile } from './routes.ts';

/**
 * Takes a narinfo: has the path listed by the cache service, which verifies the content and signs; or adds the signatures to
 * those of a path that is listed.
 *
 * @throws {@link Refusal} 400, 422; `CacheError` as the service threw it, `CACHE_PATH_CONFLICT` when the cache has the path
 * with other content
 */
export async function receiveNarInfo(
  { jetstream, index }: { jetstream: JetStream; index: NarIndex },
  { hashPart, text }: { hashPart: string; text: string },
  signal: AbortSignal,
): Promise<void> {
  const info = parse(text, hashPart);
  const { storePath, url } = info;
  const listed = await index.find(hashPart, signal);
  if (listed === undefined) {
    const file = narFileOf(url);
    const nar = file === undefined ? undefined : await uploadedNar(index, { file, info }, signal);
    if (file === undefined || nar === undefined) {
      throw new Refusal(422, `Cannot list "${storePath}": its NAR "${url}" has not been uploaded`);
    }
    await commit({ jetstream, index }, { info, nar, file }, signal);
  }
  if (info.signatures.length === 0 && listed === undefined) return;
  const question = { subject: SUBJECTS.sign, body: cacheNarInfo(info) };
  await call(jetstream, question, { action: `sign "${storePath}"`, signal });
}

function parse(text: string, hashPart: string): NarInfo {
  let info: NarInfo;
  try {
    info = parseNarInfo(text, `${hashPart}.narinfo`);
  } catch (error) {
    if (error instanceof NixError) throw new Refusal(400, error.message, { cause: error });
    throw error;
  }
  if (storePathHash(info.storePath) === hashPart) return info;
  throw new Refusal(400, `Cannot list "${info.storePath}": the name of its narinfo is "${hashPart}.narinfo"`);
}

/** The NAR that a narinfo names, when it is the one that the narinfo describes. */
async function uploadedNar(
  index: NarIndex,
  { file, info }: { file: NarFile; info: NarInfo },
  signal: AbortSignal,
): Promise<KnownNar | undefined> {
  const nar = await index.nar(file, signal);
  if (nar === undefined) return undefined;
  const [uploaded, described] = [nar.manifest, info].map(({ narHash, narSize }) => `${narHash} (${narSize} bytes)`);
  if (uploaded === described) return nar;
  throw new Refusal(
    422,
    `Cannot list "${info.storePath}": the NAR in "${file.name}" is ${uploaded}, its narinfo says ${described}`,
  );
}

async function commit(
  { jetstream, index }: { jetstream: JetStream; index: NarIndex },
  { info, nar, file }: { info: NarInfo; nar: KnownNar; file: NarFile },
  signal: AbortSignal,
): Promise<void> {
  const { storePath } = info;
  const question = { subject: SUBJECTS.commit, body: encodeEntries([makeEntry(info, nar.manifest)]) };
  try {
    await call(jetstream, question, { action: `list "${storePath}"`, signal });
  } catch (error) {
    const isLost = error instanceof CacheError && error.code.startsWith('CACHE_CHUNK_');
    if (!isLost) throw error;
    // What the service read told it of the first lost chunk only. The upload that follows asks what is there.
    await checkManifest(jetstream, nar.manifest, signal);
    // The client asks for its file before it uploads it: it must not find it.
    await index.aliases.drop(file.name, signal);
    const message = `Cannot list "${storePath}": the cache has lost a part of its NAR (chunk "${error.chunk}")`;
    throw new Refusal(422, `${message}\nCopy the path again: its NAR is then uploaded anew`, { cause: error });
  }
}
