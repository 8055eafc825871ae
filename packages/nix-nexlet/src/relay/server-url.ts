import { isIP } from 'node:net';
import type { RelayTarget } from './relay-listener.ts';

/** Ports of NATS URLs that name none. */
const PORTS: Readonly<Record<string, number>> = { 'nats:': 4222, 'tls:': 4222, 'ws:': 80, 'wss:': 443 };

/** The URL of a NATS server, as far as it matters where it leads to. */
export interface ServerUrl {
  readonly target: RelayTarget;
  /** Whether its host is a name that is to be kept: the server's certificate is checked against it. */
  readonly named: boolean;
  /** The same, but for host and port. */
  at(host: string, port: number): string;
}

/** Parses `nats://host:port`, the same with `tls`, `ws` or `wss`, and `host:port`; undefined when it is none of these. */
export function parseServerUrl(text: string): ServerUrl | undefined {
  const url = URL.parse(text.includes('://') ? text : `nats://${text}`);
  const defaultPort = PORTS[url?.protocol ?? ''];
  if (url === null || url.hostname === '' || defaultPort === undefined) return undefined;
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  return {
    target: { host, port: url.port === '' ? defaultPort : Number(url.port) },
    named: isName(host),
    at(newHost, port) {
      const changed = new URL(url);
      changed.hostname = newHost;
      changed.port = String(port);
      return changed.href;
    },
  };
}

/** A name that can stand in `/etc/hosts`, and does not stand there already. */
function isName(host: string): boolean {
  return isIP(host) === 0 && /^[A-Za-z0-9._-]+$/.test(host) && !/(^|\.)localhost$/.test(host);
}
