/** What happens while dev services start and run, for whoever shows it. */
export type DevEvent =
  | { type: 'identity'; kind: 'operator' | 'account' | 'user'; name: string; created: boolean }
  | { type: 'account'; name: string; outcome: 'pushed' | 'unchanged' | 'newer-on-server' }
  | { type: 'context'; name: string; file: string; written: boolean }
  | { type: 'stream'; name: string; created: boolean }
  /** A nats-server of killed dev services on the same data was found and ended. */
  | { type: 'orphan-ended'; pid: number }
  | { type: 'server-started'; pid: number; url: string; restarted: boolean }
  /** nats-server ended although nobody asked it to; it is started again after the delay. */
  | { type: 'server-ended'; code: number | null; signal: NodeJS.Signals | null; restartInMs: number }
  | { type: 'server-restart-failed'; error: unknown; restartInMs: number }
  | { type: 'cache-started'; url: string }
  /** A request to the cache failed, or something in it is damaged; it goes on. */
  | { type: 'cache-failure'; message: string; fields: Readonly<Record<string, unknown>>; error: unknown };

export type OnDevEvent = (event: DevEvent) => void;
