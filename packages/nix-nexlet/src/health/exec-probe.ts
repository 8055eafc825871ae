import type { ExecResult, Sandbox } from '@nex-nix/sandbox';
import { SandboxError } from '@nex-nix/sandbox';
import { failed, HEALTHY, type Probe, type ProbeResult } from './probe.ts';

export interface ProbeCommand {
  /** Absolute path inside the sandbox. */
  readonly program: string;
  readonly argv: readonly string[];
}

/** Healthy when a command, run in the sandbox beside its program, ends with 0. */
export class ExecProbe implements Probe {
  readonly #sandbox: Pick<Sandbox, 'exec'>;
  readonly #command: ProbeCommand;

  constructor(sandbox: Pick<Sandbox, 'exec'>, command: ProbeCommand) {
    this.#sandbox = sandbox;
    this.#command = command;
  }

  async check(signal: AbortSignal): Promise<ProbeResult> {
    let result: ExecResult;
    try {
      result = await this.#sandbox.exec({ ...this.#command, signal });
    } catch (error) {
      if (signal.aborted) return failed('its command does not end in time');
      if (error instanceof SandboxError) return failed(error.message);
      throw error;
    }
    if (signal.aborted) return failed('its command does not end in time');
    if (result.code === 0) return HEALTHY;
    const [line = ''] = result.output.trim().split('\n');
    return failed(`its command ended with ${result.code}${line === '' ? '' : `: ${line}`}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
