import { headers as newHeaders } from '@nats-io/nats-core';
import { CacheError } from '../errors.ts';
import { attempt, type JetStream, lastMessage } from '../jetstream/jetstream.ts';
import { ALIAS_STREAM, aliasSubject, KV_OPERATION_HEADER } from '../jetstream/layout.ts';
import { decodeManifest, encodeManifest, type Manifest } from '../manifests/manifest.ts';
import { maxBody } from '../jetstream/payload.ts';
import { type Compression, isCompression } from './routes.ts';

/** What a file that was uploaded holds, and how it is compressed. */
export interface UploadAlias {
  readonly compression: Compression;
  readonly manifest: Manifest;
}

const COMPRESSION_HEADER = 'Nix-Compression';

/**
 * The files that Nix clients uploaded, by name, for a month. A client asks for what it uploaded by the name that it gave it;
 * and between the upload of a NAR and that of its narinfo, this is all that is known of it.
 */
export class UploadAliases {
  readonly #jetstream: JetStream;

  constructor(jetstream: JetStream) {
    this.#jetstream = jetstream;
  }

  async get(file: string, signal: AbortSignal): Promise<UploadAlias | undefined> {
    const where = { stream: ALIAS_STREAM, subject: aliasSubject(file) };
    const message = await lastMessage(this.#jetstream, where, { action: `look up "${file}"`, signal });
    if (message === undefined || message.headers.has(KV_OPERATION_HEADER)) return undefined;
    const compression = message.headers.get(COMPRESSION_HEADER);
    if (!isCompression(compression)) {
      throw new CacheError(
        'CACHE_PROTOCOL',
        `Cannot use what is kept of "${file}": its compression is "${compression}"`,
      );
    }
    return { compression, manifest: decodeManifest(message.data, file) };
  }

  /** @throws {@link CacheError} `CACHE_NAR_TOO_LARGE` */
  async put(file: string, { compression, manifest }: UploadAlias, signal: AbortSignal): Promise<void> {
    const body = encodeManifest(manifest);
    if (body.length > maxBody(this.#jetstream.nc)) {
      throw new CacheError(
        'CACHE_NAR_TOO_LARGE',
        `Cannot store "${file}": the list of its ${manifest.chunks.length} chunks does not fit into one message`,
        { hint: 'Raise max_payload of nats-server, or split the path' },
      );
    }
    await this.#publish({ file, body, header: [COMPRESSION_HEADER, compression] }, signal);
  }

  async drop(file: string, signal: AbortSignal): Promise<void> {
    await this.#publish({ file, body: new Uint8Array(), header: [KV_OPERATION_HEADER, 'DEL'] }, signal);
  }

  async #publish(
    { file, body, header }: { file: string; body: Uint8Array; header: readonly [key: string, value: string] },
    signal: AbortSignal,
  ): Promise<void> {
    const { nc, js } = this.#jetstream;
    await attempt(nc, { action: `remember "${file}"`, signal }, async () => {
      const headers = newHeaders();
      headers.set(...header);
      await js.publish(aliasSubject(file), body, { headers });
    });
  }
}
