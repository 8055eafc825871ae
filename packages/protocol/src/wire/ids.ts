import { nuid } from '@nats-io/nats-core';

/** A fresh NUID (22 characters of `[0-9A-Za-z]`): the form of agent, workload, bid, auction and error ids in Nex 0.4. */
export function newId(): string {
  return nuid.next();
}
