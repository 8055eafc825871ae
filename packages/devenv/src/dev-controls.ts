/** The services of a dev environment, in the order in which they start. */
export type ServiceName = 'nats' | 'accounts' | 'cache' | 'node';

/**
 * Where a service is. `waiting`: for others; `done`: a task that has ended well; `restarting`: it ended by itself, and is
 * started again after a delay; `failed`: it ended by itself at its first start, and is not started again.
 */
export type ServiceState = 'waiting' | 'starting' | 'ready' | 'done' | 'restarting' | 'failed' | 'stopping' | 'stopped';

export interface ServiceStatus {
  name: ServiceName;
  state: ServiceState;
  /** When it came into that state, ISO 8601. */
  since: string;
  /** Process that runs it, when one does. */
  pid?: number;
  /** Where it is reached, for example `nats://127.0.0.1:4222`. */
  url?: string;
  /** How often it has ended by itself and was started again. */
  restarts: number;
  /** Why it is not what it should be, for people: what it waits for, how it ended, what is tried next and when. */
  reason?: string;
  /** The last line that it has printed. */
  lastLine?: string;
}

/** What runs on a data folder. */
export interface DevStatus {
  dataDir: string;
  /** Process that supervises the services. */
  pid: number;
  services: ServiceStatus[];
  /** For the services in use: what `nex dev env` prints. */
  environment: Record<string, string>;
}

/** A line of a service, or of its supervisor about it. */
export interface DevLogEntry {
  /** ISO 8601. */
  time: string;
  service: ServiceName;
  /** `supervisor`: what became of it, as started, ready, ended, restarting. */
  source: 'stdout' | 'stderr' | 'supervisor';
  text: string;
}

export interface DevLogOptions {
  /** Only those of these services. @default all */
  services?: readonly ServiceName[] | undefined;
  /** How many lines of before. @default all that are kept */
  tail?: number | undefined;
  /** Whether to go on with what comes. @default false */
  follow?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * What can be seen of dev services and done to them: by the process that supervises them, and by any other over their
 * socket.
 */
export interface DevControls {
  status(): Promise<DevStatus>;
  /** The status now, and whenever it changes. Ends when the services do. */
  watch(signal?: AbortSignal): AsyncIterable<DevStatus>;
  logs(options?: DevLogOptions): AsyncIterable<DevLogEntry>;
  /** Ends a service, and starts it again. Resolves when it is ready. */
  restart(service: ServiceName): Promise<void>;
}
