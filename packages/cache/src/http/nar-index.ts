import { type NarHash, type NarInfo, parseNarHash, type StorePath } from '@nex-nix/nix';
import { unpackBits } from '../protocol/bitmap.ts';
import { call } from '../protocol/call.ts';
import { type ChunkId, packChunkIds } from '../chunks/chunk-id.ts';
import { decodeEntries, decodeEntry } from '../manifests/entry.ts';
import { CacheError } from '../errors.ts';
import { type JetStream, lastMessage } from '../jetstream/jetstream.ts';
import { CHUNK_STREAM, chunkSubject } from '../jetstream/layout.ts';
import { type ChunkRef, decodeManifest, type Manifest } from '../manifests/manifest.ts';
import { IDS_PER_REQUEST, SUBJECTS } from '../protocol/protocol.ts';
import { RecentMap } from './recent-map.ts';
import type { Compression, NarFile } from './routes.ts';
import { UploadAliases } from './upload-aliases.ts';

/** A NAR that is stored. */
export interface KnownNar {
  readonly manifest: Manifest;
  /** How the file that was asked for is compressed. */
  readonly compression: Compression;
  /** A path that has this NAR, as far as one has been asked for here. */
  readonly path: StorePath | undefined;
  /** A chunk that the cache has lost. */
  readonly lacks: ChunkId | undefined;
}

/** Chunks in all remembered manifests together: about 15 MB. */
const MAX_CHUNKS = 100_000;
const MAX_NAMES = 20_000;

/** Finds what URLs name: paths by their hash part, NARs by their hash or by the name of the file that was uploaded. */
export class NarIndex {
  readonly aliases: UploadAliases;
  readonly #jetstream: JetStream;
  readonly #manifests = new RecentMap<NarHash, Manifest>(MAX_CHUNKS, ({ chunks }) => 1 + chunks.length);
  readonly #names = new RecentMap<NarHash, StorePath>(MAX_NAMES);

  constructor(jetstream: JetStream) {
    this.#jetstream = jetstream;
    this.aliases = new UploadAliases(jetstream);
  }

  /** The path with this hash part, or undefined when the cache does not list it. */
  async find(hashPart: string, signal: AbortSignal): Promise<NarInfo | undefined> {
    const question = { subject: SUBJECTS.find, body: hashPart };
    const answer = await call(this.#jetstream, question, { action: `look up the path "${hashPart}"`, signal });
    const [entry] = decodeEntries(answer);
    if (entry === undefined) return undefined;
    const { info, manifest } = decodeEntry(entry, hashPart);
    this.#manifests.set(info.narHash, manifest);
    this.#names.set(info.narHash, info.storePath);
    return info;
  }

  /** The manifest of a NAR, which may be one of yesterday. */
  async manifest(narHash: NarHash, signal: AbortSignal): Promise<Manifest | undefined> {
    return this.#manifests.get(narHash) ?? (await this.#fetch(narHash, signal));
  }

  /** The NAR in a file, or undefined when there is no such file. */
  async nar(file: NarFile, signal: AbortSignal): Promise<KnownNar | undefined> {
    const found = await this.#byHash(file, signal);
    if (found !== undefined) return found;
    const alias = await this.aliases.get(file.name, signal);
    if (alias === undefined) return undefined;
    const { manifest, compression } = alias;
    const { narHash } = manifest;
    const lacks = await this.#lacking(manifest, signal);
    // The cache may have the same NAR in other pieces, and have collected these.
    const other = lacks === undefined ? undefined : await this.#ofHash(narHash, compression, signal);
    return other ?? { manifest, compression, path: this.#names.get(narHash), lacks };
  }

  async #byHash({ hash, compression }: NarFile, signal: AbortSignal): Promise<KnownNar | undefined> {
    if (compression !== 'none' && compression !== 'zstd') return undefined;
    return this.#ofHash(parseNarHash(`sha256:${hash}`), compression, signal);
  }

  async #ofHash(narHash: NarHash, compression: Compression, signal: AbortSignal): Promise<KnownNar | undefined> {
    const known = await this.manifest(narHash, signal);
    if (known === undefined) return undefined;
    const path = this.#names.get(narHash);
    const lacks = await this.#lacking(known, signal);
    if (lacks === undefined) return { manifest: known, compression, path, lacks };
    // It may have been collected, and pushed again in other pieces.
    this.#manifests.delete(narHash);
    const fresh = await this.#fetch(narHash, signal);
    if (fresh === undefined) return undefined;
    return { manifest: fresh, compression, path, lacks: await this.#lacking(fresh, signal) };
  }

  async #fetch(narHash: NarHash, signal: AbortSignal): Promise<Manifest | undefined> {
    const question = { subject: SUBJECTS.nar, body: narHash };
    const answer = await call(this.#jetstream, question, { action: `look up the NAR "${narHash}"`, signal });
    if (answer.length === 0) return undefined;
    const manifest = decodeManifest(answer, narHash);
    if (manifest.narHash !== narHash) {
      throw new CacheError('CACHE_MANIFEST_INVALID', `Cannot use the manifest of "${narHash}": it is of another NAR`);
    }
    this.#manifests.set(narHash, manifest);
    return manifest;
  }

  /** The first chunk that is not stored. */
  async #lacking({ chunks }: Manifest, signal: AbortSignal): Promise<ChunkId | undefined> {
    for (let at = 0; at < chunks.length; at += IDS_PER_REQUEST) {
      const page = chunks.slice(at, at + IDS_PER_REQUEST);
      const question = { subject: SUBJECTS.have, body: packChunkIds(page.map(({ id }) => id)) };
      const task = { action: 'ask the cache for the chunks it has', signal };
      const bits = unpackBits(await call(this.#jetstream, question, task), page.length) ?? [];
      for (const [i, chunk] of page.entries()) {
        // The service that answered may not have heard yet of what another one has accepted.
        if (bits[i] !== true && !(await this.#isStored(chunk, signal))) return chunk.id;
      }
    }
    return undefined;
  }

  async #isStored({ id }: ChunkRef, signal: AbortSignal): Promise<boolean> {
    const where = { stream: CHUNK_STREAM, subject: chunkSubject(id) };
    return (await lastMessage(this.#jetstream, where, { action: `look for chunk "${id}"`, signal })) !== undefined;
  }
}
