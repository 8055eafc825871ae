import { describe, expect, it } from 'vitest';
import { errorClass, errorKind, exitCode, NexError, toPublicError } from './index.ts';

class ToolError extends errorClass({ TOOL_MISSING: 'not-found', TOOL_FORBIDDEN: 'refused' }) {}

describe('NexError', () => {
  const error = new ToolError('TOOL_MISSING', 'Cannot find "crun" on PATH', {
    hint: 'apt-get install crun',
  });

  it('carries code, kind, hint and the name of its class', () => {
    expect(error).toMatchObject({ name: 'ToolError', code: 'TOOL_MISSING', kind: 'not-found' });
    expect(toPublicError(error)).toEqual({
      code: 'TOOL_MISSING',
      message: 'Cannot find "crun" on PATH',
      hint: 'apt-get install crun',
    });
  });

  it('gets its kind from the table of its class, and keeps its cause', () => {
    const cause = new TypeError('x');
    const refused = new ToolError('TOOL_FORBIDDEN', 'Cannot run "crun"', { cause });
    expect(refused).toBeInstanceOf(NexError);
    expect(refused).toMatchObject({ kind: 'refused', cause });
    expect('cause' in error).toBe(false);
  });

  it('decides the exit code; anything else is a failure', () => {
    expect(exitCode(error)).toBe(3);
    expect(exitCode(new TypeError('x'))).toBe(1);
    expect(errorKind('text')).toBe('failed');
    expect(toPublicError(new TypeError('x'))).toEqual({ code: 'INTERNAL', message: 'x' });
  });

  it('does not take a system error with a code for one of its own', () => {
    const system = Object.assign(new Error('no such file'), { code: 'ENOENT' });
    expect(toPublicError(system).code).toBe('INTERNAL');
  });
});
