import { createContext, Script } from 'node:vm';

/** The engine stops only what it started as a script, but then also what that calls, regular expressions included. */
const CALL = new Script('task()', { filename: 'time-limit' });
/** Making a context takes milliseconds, so there is one; a task is in it only while it runs. */
let context: { task: () => void } | undefined;

/**
 * Runs synchronous work, which may be made endless by what somebody else sent, for no longer than `milliseconds`.
 *
 * @throws {Error} with code ERR_SCRIPT_EXECUTION_TIMEOUT; whatever `work` throws
 */
export function withTimeLimit<T>(milliseconds: number, work: () => T): T {
  context ??= createContext({ task: idle }) as { task: () => void };
  const before = context.task;
  let result: { value: T } | undefined;
  context.task = () => {
    result = { value: work() };
  };
  try {
    CALL.runInContext(context, { timeout: milliseconds });
  } finally {
    context.task = before;
  }
  if (result === undefined) throw new TypeError('the work did not run');
  return result.value;
}

function idle(): void {}
