import { describe, expect, it } from 'vitest';
import { exitFrom } from './firecracker-exit.ts';

const running = '2026-01-01T00:00:00.000000000 [vm:main] Running Firecracker v1.16.1\n';

describe('exitFrom()', () => {
  it('knows the last line of a Firecracker whose guest ended, old and new', () => {
    for (const line of ['Firecracker exited successfully', 'Firecracker exiting successfully. exit_code=0']) {
      const log = `${running}[vm:main] ${line}\n`;
      expect(exitFrom({ log, errors: '', console: 'bye' })).toMatchObject({ reason: 'shutdown' });
      expect(exitFrom({ log, errors: '', console: 'Kernel panic - not syncing: x' })).toMatchObject({
        reason: 'panic',
      });
    }
  });

  it('takes an end without a word for a kill', () => {
    expect(exitFrom({ log: running, errors: '', console: '' })).toEqual({ reason: 'killed', detail: running.trim() });
    expect(exitFrom({ log: '', errors: '', console: '' })).toEqual({ reason: 'killed', detail: '' });
  });

  it('knows when it gave up, and why', () => {
    const errors = 'Error: RunWithApi(MicroVMStoppedWithError(BadSyscall))\n';
    expect(exitFrom({ log: running, errors, console: '' })).toEqual({
      reason: 'failed',
      detail: `${errors.trim()}\n${running.trim()}`,
    });
    const lines = [
      'Shutting down VM after intercepting a bad syscall (16).',
      'Shutting down VM after intercepting signal 7, code 2.',
      "Firecracker panicked at 'no', src/vmm/src/lib.rs:1",
      'Firecracker exiting with error. exit_code=1',
    ];
    for (const line of lines) {
      expect(exitFrom({ log: `${running}${line}\n`, errors: '', console: '' }).reason, line).toBe('failed');
    }
  });

  it('is not taken in by a Firecracker that is content with a processor that failed', () => {
    // As 1.17 writes it.
    const end = [
      '[vm:main] Vmm is stopping.',
      '[vm:main] Killing vCPU threads',
      '[vm:main] Discarding unexpected vCPU response during teardown: VcpuResponse::Exited(GenericError)',
      '[vm:main] Firecracker exiting successfully. exit_code=0',
    ];
    const failures = [
      'Received KVM_EXIT_INTERNAL_ERROR signal',
      'Received KVM_EXIT_FAIL_ENTRY signal: 7 on cpu 0',
      'Received ENOSYS error because KVM failed to emulate an instruction.',
      'Unexpected exit reason on vcpu run: Shutdown',
      'Failure during vcpu run: Bad address (os error 14)',
    ];
    for (const failure of failures) {
      const log = [running.trim(), `[vm:fc_vcpu 0] ${failure}`, ...end, ''].join('\n');
      const { reason, detail } = exitFrom({ log, errors: '', console: '' });
      expect(reason, failure).toBe('failed');
      expect(detail).toContain(failure);
    }
  });

  it('does not believe a guest that prints what its VMM would', () => {
    const console = 'Firecracker exiting successfully. exit_code=0\n';
    expect(exitFrom({ log: running, errors: '', console }).reason).toBe('killed');
  });
});
