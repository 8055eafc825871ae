/** A node of the block layer, as `blockdev-add` and `blockdev-reopen` take it. */
type BlockNode =
  | {
      driver: 'file';
      'node-name': string;
      filename: string;
      'read-only': boolean;
      locking?: 'off';
      cache?: { 'no-flush': boolean };
    }
  | { driver: 'raw'; 'node-name': string; 'read-only': boolean; file: string };

/** Arguments of the commands that we use, in QEMU 7.2 and later. */
export interface QmpArguments {
  qmp_capabilities: undefined;
  'query-status': undefined;
  stop: undefined;
  cont: undefined;
  quit: undefined;
  system_reset: undefined;
  'set-action': { reboot: 'reset' | 'shutdown' };
  /** Takes what it gives out of the ring. */
  'ringbuf-read': { device: string; size: number; format: 'base64' };
  'blockdev-add': BlockNode;
  'blockdev-del': { 'node-name': string };
  'blockdev-reopen': { options: BlockNode[] };
  block_resize: { 'node-name': string; size: number };
  'migrate-set-capabilities': { capabilities: { capability: string; state: boolean }[] };
  'migrate-set-parameters': { 'max-bandwidth': number };
  migrate: { uri: string };
  'migrate-incoming': { uri: string };
  'query-migrate': undefined;
}

/** States of a VM that are told apart here; there are others. */
interface QmpReturns {
  /** `status`: `prelaunch`, `inmigrate`, `running`, `paused`, `postmigrate`, `shutdown`, `guest-panicked` and others. */
  'query-status': { status: string };
  /** Base64. */
  'ringbuf-read': string;
  /** `status`: absent before any migration; else `setup`, `active`, `completed`, `failed` and others. */
  'query-migrate': { status?: string; 'error-desc'?: string };
}

export type QmpCommand = keyof QmpArguments;

export type QmpReturn<C extends QmpCommand> = C extends keyof QmpReturns ? QmpReturns[C] : void;

/** Whether a value is what a command returns. Commands that return nothing of interest return `{}`. */
export function isReturnOf<C extends QmpCommand>(command: C, value: unknown): value is QmpReturn<C> {
  if (command === 'ringbuf-read') return typeof value === 'string';
  if (typeof value !== 'object' || value === null) return false;
  const status = 'status' in value ? value.status : undefined;
  if (command === 'query-status') return typeof status === 'string';
  if (command === 'query-migrate') return status === undefined || typeof status === 'string';
  return true;
}
