import type { Msg, NatsConnection } from '@nats-io/nats-core';
import { ProtocolError } from '../protocol-error.ts';
import { readErrorReply } from '../wire/error-reply.ts';
import { gather, type GatherOptions } from '../wire/gather.ts';
import type { MessageType } from '../wire/message.ts';

/** A question: where it goes, what it says and how its answers are read. */
export interface Question<T> {
  readonly subject: string;
  readonly payload: string;
  readonly type: MessageType<T>;
}

export interface Answers<T> {
  readonly items: T[];
  /** Answers that are errors or cannot be read: they do not spoil the others. */
  readonly errors: ProtocolError[];
  /** Nobody listens on the subject at all. */
  readonly noResponders: boolean;
}

/** Asks everybody. Errors as {@link gather}. */
export async function askAll<T>(
  nc: NatsConnection,
  { subject, payload, type }: Question<T>,
  options: GatherOptions,
): Promise<Answers<T>> {
  const { replies, noResponders } = await gather(nc, subject, payload, options);
  return { ...readReplies(type, replies, subject), noResponders };
}

/** The messages in replies, and the errors of those that hold none. */
export function readReplies<T>(
  type: MessageType<T>,
  replies: readonly Msg[],
  subject: string,
): { items: T[]; errors: ProtocolError[] } {
  const items: T[] = [];
  const errors: ProtocolError[] = [];
  for (const reply of replies) {
    try {
      items.push(readReply(type, reply, subject));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      errors.push(error);
    }
  }
  return { items, errors };
}

/** The message in a reply. Throws the error when it is an error reply. */
export function readReply<T>(type: MessageType<T>, reply: Msg, subject: string): T {
  const error = readErrorReply(reply);
  if (error !== undefined) throw error;
  return type.decode(reply.data, subject);
}
