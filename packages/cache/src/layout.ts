import type { NarHash, StorePath } from '@nex-nix/nix';
import { storePathHash } from '@nex-nix/nix';
import type { ChunkId } from './chunk-id.ts';

/** Stream of the chunks, stored once each. */
export const CHUNK_STREAM = 'NIX_CHUNKS';
const CHUNK_PREFIX = 'nixc';
/** Every chunk's subject. */
export const CHUNK_SUBJECTS = `${CHUNK_PREFIX}.>`;
const STORED_PREFIX = 'nixcx';
/** Where JetStream announces, without their content, the chunks that it stored. */
export const STORED_SUBJECTS = `${STORED_PREFIX}.>`;

/** Stream of the manifests. */
export const MANIFEST_STREAM = 'NIX_NARS';
const MANIFEST_PREFIX = 'nixn';
/** Every manifest's subject. */
export const MANIFEST_SUBJECTS = `${MANIFEST_PREFIX}.>`;

/** Key-value bucket of the narinfos, and the stream and subjects below it. */
export const NARINFO_BUCKET = 'nix_narinfo';
export const NARINFO_STREAM = `KV_${NARINFO_BUCKET}`;
const NARINFO_PREFIX = `$KV.${NARINFO_BUCKET}`;

/** Header of a chunk: its uncompressed length. */
export const LENGTH_HEADER = 'Nix-Len';
/** Header of a chunk: `zstd` (one frame) or `raw`. */
export const CODEC_HEADER = 'Nix-Codec';

/** Where a chunk is stored. The token of two characters is there to spread chunks over several streams by subject. */
export function chunkSubject(id: ChunkId): string {
  return `${CHUNK_PREFIX}.${id.slice(0, 2)}.${id}`;
}

/** The last token of a chunk's subject, or of the subject that announces it. */
export function lastToken(subject: string): string {
  return subject.slice(subject.lastIndexOf('.') + 1);
}

/** Where the manifest of a NAR is stored. */
export function manifestSubject(narHash: NarHash): string {
  return `${MANIFEST_PREFIX}.${narHashDigits(narHash)}`;
}

/** Where the narinfo of a path is stored: a path's base name is no legal key, its hash part is. */
export function narInfoSubject(path: StorePath): string {
  return `${NARINFO_PREFIX}.${storePathHash(path)}`;
}

/** `URL` of a narinfo. */
export function narUrl(narHash: NarHash): string {
  return `nar/${narHashDigits(narHash)}.nar`;
}

function narHashDigits(narHash: NarHash): string {
  return narHash.slice(narHash.indexOf(':') + 1);
}
