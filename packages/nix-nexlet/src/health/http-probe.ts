import { get } from 'node:http';
import { failed, HEALTHY, type Probe, type ProbeResult } from './probe.ts';

export interface HttpTarget {
  readonly port: number;
  readonly path: string;
  /** The sandbox's own address; undefined while it has none. */
  readonly address: () => Promise<string | undefined>;
}

/**
 * Healthy when a GET is answered by a 2xx. Of the answer no more than the head is read, which Node takes up to 16 KiB
 * of; redirects are not followed: the program would choose where the node goes.
 */
export class HttpProbe implements Probe {
  readonly #target: HttpTarget;

  constructor(target: HttpTarget) {
    this.#target = target;
  }

  async check(signal: AbortSignal): Promise<ProbeResult> {
    const { port, path, address } = this.#target;
    const host = await address();
    if (host === undefined) return failed('it has no address');
    const answer = Promise.withResolvers<ProbeResult>();
    const request = get({ host, port, path, signal, agent: false, headers: { connection: 'close' } });
    request.on('response', (response) => {
      const { statusCode = 0 } = response;
      response.on('error', () => undefined);
      answer.resolve(statusCode >= 200 && statusCode < 300 ? HEALTHY : failed(`${path} is answered by ${statusCode}`));
      request.destroy();
    });
    request.on('error', (error: NodeJS.ErrnoException) => {
      const why = signal.aborted ? 'does not answer in time' : `cannot be asked: ${error.code ?? error.message}`;
      answer.resolve(failed(`port ${port} ${why}`));
    });
    // A program that goes on talking before its answer, or asks to change the protocol, gives none.
    request.on('upgrade', (_response, socket) => {
      socket.destroy();
      answer.resolve(failed(`${path} is answered by 101`));
    });
    return answer.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
