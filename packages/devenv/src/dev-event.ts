import type { ServiceName } from './dev-controls.ts';

/** What happens while dev services start and run, for whoever shows it. */
export type DevEvent =
  | { type: 'identity'; kind: 'operator' | 'account' | 'user'; name: string; created: boolean }
  /** Something of the store of nsc is left as it is, and cannot be used; for people. */
  | { type: 'store-notice'; message: string }
  | { type: 'account'; name: string; outcome: 'pushed' | 'unchanged' | 'newer-on-server' }
  | { type: 'context'; name: string; file: string; written: boolean }
  | { type: 'stream'; name: string; created: boolean }
  /** What killed dev services had left running on the same data was found and ended. */
  | { type: 'orphan-ended'; service: ServiceName; pid: number };

export type OnDevEvent = (event: DevEvent) => void;
