import { expect, it } from 'vitest';
import { fatalLine } from './nats-service.ts';

it.each([
  [
    '[12] 2026/11/22 10:00:00.123456 [INF] Starting nats-server\n[12] 2026/11/22 10:00:00.123999 [FTL] Can not start JetStream: disk full\n[12] 2026/11/22 10:00:01.0 [INF] Server Exiting..\n',
    'Can not start JetStream: disk full',
  ],
  ['nats-server: /x/nats.conf:3:1: unknown field "foo"\n', '/x/nats.conf:3:1: unknown field "foo"'],
  ['[12] 2026/11/22 10:00:00.123456 [INF] Starting\n', ''],
  ['', ''],
])('fatalLine() of %j', (output, line) => {
  expect(fatalLine(output.split('\n'))).toBe(line);
});
