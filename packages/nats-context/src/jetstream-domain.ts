import type { NatsConnection } from '@nats-io/nats-core';
import type { NatsContext } from './nats-context.ts';

const API = '$JS.API.';

/**
 * Has everything that talks to JetStream over a connection do so in the domain, or by the prefix, that the context names:
 * what is sent to `$JS.API.…` goes to `$JS.<domain>.API.…`. Done here once, no user of the connection need know of it.
 */
export function applyJetstreamDomain(nc: NatsConnection, context: NatsContext): void {
  const prefix = prefixOf(context);
  if (prefix === API) return;
  const addressed = (subject: string) => (subject.startsWith(API) ? prefix + subject.slice(API.length) : subject);
  const publish = nc.publish.bind(nc);
  const request = nc.request.bind(nc);
  const requestMany = nc.requestMany.bind(nc);
  nc.publish = (subject, ...rest) => publish(addressed(subject), ...rest);
  nc.request = (subject, ...rest) => request(addressed(subject), ...rest);
  nc.requestMany = (subject, ...rest) => requestMany(addressed(subject), ...rest);
}

/** As natscli reads it: the prefix, else the domain. */
function prefixOf({ jetstream_api_prefix: prefix, jetstream_domain: domain }: NatsContext): string {
  if (prefix !== '') return `${prefix.replace(/\.$/, '')}.`;
  return domain === '' ? API : `$JS.${domain}.API.`;
}
