import type { Logger } from '@nex-nix/nexlet';
import { pino } from 'pino';
import { PinoPretty } from 'pino-pretty';
import type { GlobalOptions } from './context.ts';

/** Log lines on stderr: readable on a terminal, JSON otherwise or with `--json`. */
export function createLogger({ json = false, debug = false }: GlobalOptions): Logger {
  const level = debug ? 'debug' : 'info';
  if (json || !process.stderr.isTTY) return pino({ level }, pino.destination({ dest: 2, sync: true }));
  return pino(
    { level },
    PinoPretty({ destination: 2, sync: true, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss.l' }),
  );
}
