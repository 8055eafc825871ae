import { ClosedConnectionError, DrainingConnectionError, headers as newHeaders } from '@nats-io/nats-core';
import type { ServiceMsg } from '@nats-io/services';
import { errorKind, type PublicError, toPublicError } from '@nex-nix/errors';
import { CacheError } from '../errors.ts';
import { KEEP_ALIVE_MS, PART_HEADER, PART_SIZE } from '../protocol/protocol.ts';

/** Numbers of the header `Nats-Service-Error-Code`, after those of HTTP. */
const STATUS = { failed: 500, usage: 400, 'not-found': 404, refused: 409, unreachable: 503 } as const;

/** Body of an answer that is an error, beside the header that the service framework prescribes. */
export interface WireError extends PublicError {
  readonly storePath?: string | undefined;
  readonly chunk?: string | undefined;
}

/** The answer to one request, in as many messages as it takes. */
export class Answer implements Disposable {
  readonly #request: ServiceMsg;
  readonly #keepAlive: NodeJS.Timeout;
  #pending: Uint8Array[] = [];
  #pendingSize = 0;
  #sent = 0;

  constructor(request: ServiceMsg) {
    this.#request = request;
    this.#keepAlive = setInterval(() => this.#send('more', Buffer.alloc(0)), KEEP_ALIVE_MS);
    this.#keepAlive.unref();
  }

  /** Adds to the answer; what has become large enough is sent. */
  write(bytes: Uint8Array): void {
    if (this.#pendingSize > 0 && this.#pendingSize + bytes.length > PART_SIZE) this.#flush('more');
    this.#pending.push(bytes);
    this.#pendingSize += bytes.length;
  }

  /** Adds the last of the answer, and ends it. */
  end(bytes: Uint8Array | string = ''): void {
    this.write(typeof bytes === 'string' ? Buffer.from(bytes) : bytes);
    this.#flush(`last ${this.#sent + 1}`);
  }

  /** Ends the answer with an error, which is all that the other side makes of it. */
  fail(error: unknown): void {
    const { storePath, chunk } = error instanceof CacheError ? error : {};
    const body: WireError = { ...toPublicError(error), storePath, chunk };
    this.#respond(() =>
      this.#request.respondError(STATUS[errorKind(error)], headerText(body.message), JSON.stringify(body)),
    );
  }

  [Symbol.dispose](): void {
    clearInterval(this.#keepAlive);
  }

  #flush(part: string): void {
    this.#send(part, Buffer.concat(this.#pending));
    this.#pending = [];
    this.#pendingSize = 0;
  }

  #send(part: string, data: Uint8Array): void {
    const headers = newHeaders();
    headers.set(PART_HEADER, part);
    this.#respond(() => this.#request.respond(data, { headers }));
    this.#sent++;
  }

  #respond(send: () => void): void {
    try {
      send();
    } catch (error) {
      // With the connection gone there is nobody to answer; the other side asks again.
      if (error instanceof ClosedConnectionError || error instanceof DrainingConnectionError) return;
      throw error;
    }
  }
}

/** A header holds one line. */
function headerText(text: string): string {
  return text.replaceAll(/[\r\n]+/g, ' ');
}
