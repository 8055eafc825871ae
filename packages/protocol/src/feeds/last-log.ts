import type { NatsConnection } from '@nats-io/nats-core';
import { requestOne } from '../wire/gather.ts';
import { ANY, feedSubjects, type LogStream, type Token } from '../wire/subjects.ts';
import { FEED_STREAM } from './feed-stream.ts';
import { LOG_ID_HEADER, type LogId, parseLogId } from './log-ids.ts';

/** How long an answer may take, in milliseconds. */
const TIMEOUT = 2_000;

const INFO = `$JS.API.STREAM.INFO.${FEED_STREAM}`;

/** What to ask for the last message that the stream of feeds has of a workload (JetStream's direct get by subject). */
const lastOf = (namespace: Token, workloadId: Token, stream: LogStream) =>
  `$JS.API.DIRECT.GET.${FEED_STREAM}.${feedSubjects.logs(namespace, workloadId, stream)}`;

/** What {@link LastLogs} publishes to: no more than the last message of each workload can be read by that. */
export const LAST_LOGS_SUBJECTS: readonly string[] = [INFO, lastOf(ANY, ANY, 'stdout'), lastOf(ANY, ANY, 'stderr')];

export interface LastLogsOptions {
  /** How long each answer may take, in milliseconds. @default 2000 */
  timeout?: number;
}

/** Which piece of a workload's output is the last one that the stream of feeds has. */
export class LastLogs {
  readonly #nc: NatsConnection;
  readonly #timeout: number;

  private constructor(nc: NatsConnection, timeout: number) {
    this.#nc = nc;
    this.#timeout = timeout;
  }

  /**
   * Undefined where no such stream answers in time, or it does not allow direct gets (`allow_direct`), which would be
   * asked in vain: nobody says no to them.
   *
   * @throws {ProtocolError} NEX_PERMISSION, NEX_CONNECTION_CLOSED
   */
  static async open(nc: NatsConnection, { timeout = TIMEOUT }: LastLogsOptions = {}): Promise<LastLogs | undefined> {
    const { reply } = await requestOne(nc, INFO, '', { timeout });
    const { config } = (reply?.data.length ? reply.json<{ config?: { allow_direct?: boolean } }>() : {}) ?? {};
    return config?.allow_direct === true ? new LastLogs(nc, timeout) : undefined;
  }

  /**
   * Undefined when there is none, or one without an id, and when the answer does not come in time.
   *
   * @throws {ProtocolError} NEX_SUBJECT_INVALID, NEX_PERMISSION, NEX_CONNECTION_CLOSED
   */
  async of(namespace: string, workloadId: string, stream: LogStream): Promise<LogId | undefined> {
    const { reply } = await requestOne(this.#nc, lastOf(namespace, workloadId, stream), '', { timeout: this.#timeout });
    return parseLogId(reply?.headers?.get(LOG_ID_HEADER));
  }
}
