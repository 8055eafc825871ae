import type { NatsConnection, Subscription } from '@nats-io/nats-core';
import { defineMessage, gather, ProtocolError } from '@nex-nix/protocol';
import { type Static, Type } from 'typebox';
import type { Logger } from '../logger.ts';

/** Asks every controller of the account to show itself. */
const SUBJECT = '$NEX.SVC.system.controller.PING';
const PING_TIMEOUT = 1_500;
const PING_STALL = 300;

const ControllerPingSchema = Type.Object({
  id: Type.String(),
  /** Public curve key; absent when it has none and so can open no environment. */
  xkey: Type.Optional(Type.String()),
  /** It is the one that acts. */
  leading: Type.Boolean(),
});
const ControllerPing = defineMessage('ControllerPing', ControllerPingSchema);
/** A controller as it answers a ping. */
export type ControllerPing = Static<typeof ControllerPingSchema>;

/** The controllers that there are. */
export async function pingControllers(nc: NatsConnection, signal?: AbortSignal): Promise<ControllerPing[]> {
  const { replies } = await gather(nc, SUBJECT, '{}', { timeout: PING_TIMEOUT, stall: PING_STALL, signal });
  return replies.flatMap((reply) => {
    try {
      return [ControllerPing.decode(reply.data, SUBJECT)];
    } catch (error) {
      if (error instanceof ProtocolError) return [];
      throw error;
    }
  });
}

/** Answers pings. */
export function answerPings(nc: NatsConnection, describe: () => ControllerPing, logger: Logger): Subscription {
  return nc.subscribe(SUBJECT, {
    callback: (error, msg) => {
      if (error === null) msg.respond(ControllerPing.encode(describe()));
      else logger.warn({ err: error }, 'this controller cannot be asked whether it is there');
    },
  });
}
