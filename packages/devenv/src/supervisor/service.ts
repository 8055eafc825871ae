import type { ServiceName } from '../dev-controls.ts';

/** A service that runs and is ready. Disposing of it ends it. */
export interface Run extends AsyncDisposable {
  readonly pid?: number | undefined;
  readonly url?: string | undefined;
  /** How it has ended, in words, when it was not told to or was. */
  readonly ended: Promise<string>;
}

/** Told each line that a service prints. */
export type OnLine = (source: 'stdout' | 'stderr', line: string) => void;

/** Something that the supervisor keeps running, or, as a task, does once. */
export interface Service {
  readonly name: ServiceName;
  /** Those that must be ready before. */
  readonly after: readonly ServiceName[];
  /** Resolves when it is ready; a task resolves with nothing when it is done. When it throws, nothing of it is left. */
  start(signal: AbortSignal): Promise<Run | undefined>;
}

/** The same service; each of its starts is followed by `done`. */
export function afterStart(service: Service, done: () => Promise<void>): Service {
  return {
    name: service.name,
    after: service.after,
    async start(signal) {
      const run = await service.start(signal);
      try {
        await done();
        return run;
      } catch (error) {
        await run?.[Symbol.asyncDispose]();
        throw error;
      }
    },
  };
}
