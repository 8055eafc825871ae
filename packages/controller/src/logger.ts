/** Writes one log line: what is known as fields, then a sentence. */
export type LogFunction = (fields: Readonly<Record<string, unknown>>, message: string) => void;

/** What a controller logs to. The loggers of `@nex-nix/nexlet` and of `pino` fit. */
export interface Logger {
  debug: LogFunction;
  info: LogFunction;
  warn: LogFunction;
  error: LogFunction;
  /** A logger that adds `fields` to every line. */
  child(fields: Readonly<Record<string, unknown>>): Logger;
}

const nothing = () => undefined;

/** Drops everything. */
export const silentLogger: Logger = {
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  child: () => silentLogger,
};
