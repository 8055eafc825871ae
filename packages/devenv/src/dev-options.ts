import type { DevControls } from './dev-controls.ts';
import type { OnDevEvent } from './dev-event.ts';

export interface DevServicesOptions {
  /** Everything lies below this folder. Made when it is not there. */
  dataDir: string;
  /** How nex is run, which the cache and the node are commands of: program and first arguments. Without it there is neither. */
  command?: readonly string[] | undefined;
  /** Port of nats-server; 0: any free one. @default that of the last start, else 4222, else any, whichever is free */
  port?: number | undefined;
  /** Port of nats-server's monitoring; 0: any free one. @default likewise, 8222 */
  monitorPort?: number | undefined;
  /** Whether there is a binary cache with an HTTP door. @default whether there is a `command` */
  cache?: boolean | undefined;
  /** Port of that door; 0: any free one. @default likewise, 8080 */
  cachePort?: number | undefined;
  /** Whether there is a node. @default false */
  node?: boolean | undefined;
  /** More options of `nex node up`. */
  nodeArguments?: readonly string[] | undefined;
  /** Name or path of nats-server. @default "nats-server", on PATH or in the sbin folders */
  natsServer?: string | undefined;
  /** Gives up starting. What was started by then is stopped. */
  signal?: AbortSignal | undefined;
  /** Given the controls before the first service starts, so that the start itself can be watched and shown. */
  onControls?: ((controls: DevControls) => void) | undefined;
  onEvent?: OnDevEvent | undefined;
}
