import type { NarHash, StorePath } from '@nex-nix/nix';
import { storePathHash } from '@nex-nix/nix';
import type { ChunkId } from '../chunks/chunk-id.ts';

/** Stream of the chunks, stored once each. */
export const CHUNK_STREAM = 'NIX_CHUNKS';
const CHUNK_PREFIX = 'nixc';
/** Every chunk's subject. */
export const CHUNK_SUBJECTS = `${CHUNK_PREFIX}.>`;
const STORED_PREFIX = 'nixcx';
/** Where JetStream announces, without their content, the chunks that it stored. */
export const STORED_SUBJECTS = `${STORED_PREFIX}.>`;
/** Where packed ids of chunks are announced that are about to be deleted. */
export const DELETED_SUBJECT = `${STORED_PREFIX}.del`;
/** Where a chunk is announced that is lost, for nodes that have its path: JSON `{chunk, paths}`. */
export const LOST_SUBJECT = `${STORED_PREFIX}.lost`;

/** Stream of the manifests. */
export const MANIFEST_STREAM = 'NIX_NARS';
const MANIFEST_PREFIX = 'nixn';
/** Every manifest's subject. */
export const MANIFEST_SUBJECTS = `${MANIFEST_PREFIX}.>`;

/** Key-value bucket of the narinfos, and the stream and subjects below it. */
export const NARINFO_BUCKET = 'nix_narinfo';
export const NARINFO_STREAM = `KV_${NARINFO_BUCKET}`;
const NARINFO_PREFIX = `$KV.${NARINFO_BUCKET}`;
/** Every narinfo's subject. */
export const NARINFO_SUBJECTS = `${NARINFO_PREFIX}.>`;
/** Header by which a key-value bucket marks the message of a deleted key. */
export const KV_OPERATION_HEADER = 'KV-Operation';

/** Key-value bucket of the pins, by name. */
export const PIN_BUCKET = 'nix_pins';
export const PIN_STREAM = `KV_${PIN_BUCKET}`;
const PIN_PREFIX = `$KV.${PIN_BUCKET}`;
/** Every pin's subject. */
export const PIN_SUBJECTS = `${PIN_PREFIX}.>`;

/** Where a pin is kept. */
export function pinSubject(name: string): string {
  return `${PIN_PREFIX}.${name}`;
}

/** Key-value bucket of what collections keep: the journal, who collects, when paths were used. */
export const CARE_BUCKET = 'nix_care';
export const CARE_STREAM = `KV_${CARE_BUCKET}`;

/** Where a key of {@link CARE_BUCKET} is kept. */
export function careSubject(key: string): string {
  return `$KV.${CARE_BUCKET}.${key}`;
}

/** Key-value bucket of the files that were uploaded over HTTP: name of the file to what it holds. */
export const ALIAS_BUCKET = 'nix_alias';
export const ALIAS_STREAM = `KV_${ALIAS_BUCKET}`;

/** Where it is kept what an uploaded file holds. */
export function aliasSubject(file: string): string {
  return `$KV.${ALIAS_BUCKET}.${file}`;
}

/** Key-value bucket of build logs, by the hash part of their derivation. */
export const LOG_BUCKET = 'nix_log';
export const LOG_STREAM = `KV_${LOG_BUCKET}`;

/** Where the build log of a derivation is kept. */
export function logSubject(derivation: StorePath): string {
  return `$KV.${LOG_BUCKET}.${storePathHash(derivation)}`;
}

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
  return hashPartSubject(storePathHash(path));
}

/** The same, of the path with this hash part. */
export function hashPartSubject(hashPart: string): string {
  return `${NARINFO_PREFIX}.${hashPart}`;
}

/** `URL` of a narinfo. */
export function narUrl(narHash: NarHash): string {
  return `nar/${narHashDigits(narHash)}.nar`;
}

/** The NAR hash as nixbase32 alone. */
export function narHashDigits(narHash: NarHash): string {
  return narHash.slice(narHash.indexOf(':') + 1);
}
