import { createServer } from 'node:net';
import { hasErrno } from '../file-errors.ts';
import { findExecutable } from '../find-executable.ts';
import { runCommand } from './network-command.ts';

/**
 * Who of this machine listens on a TCP port, at whatever address: `"nats-server" (process 12)`; undefined when nobody
 * does. Binding it is the only question that has a sure answer.
 */
export async function portOwner(port: number): Promise<string | undefined> {
  if ((await isFree(port, '::')) ?? (await isFree(port, '0.0.0.0')) ?? true) return undefined;
  if ((await findExecutable('ss')) === undefined) return 'a process of this machine';
  const { stdout } = await runCommand('ss', ['-Hltnp', `sport = :${port}`]);
  const [, name, pid] = /users:\(\("([^"]*)",pid=(\d+)/.exec(stdout) ?? [];
  return name === undefined ? 'a process of this machine' : `"${name}" (process ${pid})`;
}

/** Undefined where there is no such kind of address. */
function isFree(port: number, host: string): Promise<boolean | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean | undefined>();
  const server = createServer();
  server.once('error', (error) => {
    if (hasErrno(error, 'EADDRINUSE')) resolve(false);
    else if (hasErrno(error, 'EAFNOSUPPORT', 'EADDRNOTAVAIL')) resolve(undefined);
    else reject(error);
  });
  server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  return promise;
}
