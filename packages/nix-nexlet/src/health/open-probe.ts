import { posix } from 'node:path';
import type { NatsConnectionData, StartWorkloadRequest } from '@nex-nix/protocol';
import type { Sandbox } from '@nex-nix/sandbox';
import type { HealthPlan, WorkloadPlan } from '../request/workload-plan.ts';
import { ExecProbe } from './exec-probe.ts';
import { HttpProbe } from './http-probe.ts';
import { NatsProbe } from './nats-probe.ts';
import type { Probe } from './probe.ts';
import { TcpProbe } from './tcp-probe.ts';

export interface ProbedWorkload {
  readonly id: string;
  readonly request: StartWorkloadRequest;
  readonly plan: WorkloadPlan;
  readonly sandbox: Sandbox;
  readonly credentials: () => NatsConnectionData | undefined;
}

/** The probe that a start request asks for, of one of its sandboxes. */
export function openProbe({ probe, timeoutMs }: HealthPlan, workload: ProbedWorkload): Probe {
  const { id, request, plan, sandbox, credentials } = workload;
  // In the machine's own network what it listens on is found at its loopback address.
  const address = async () => (plan.network === 'host' ? '127.0.0.1' : (await sandbox.addresses())[0]);
  switch (probe.kind) {
    case 'tcp':
      return new TcpProbe(probe.port, address);
    case 'http':
      return new HttpProbe({ ...probe, address });
    case 'exec':
      return new ExecProbe(sandbox, { ...probe, program: posix.join(plan.storePath, probe.program) });
    case 'nats': {
      const subject = ownSubject(probe.subject, { id, name: request.name, namespace: request.namespace });
      return new NatsProbe({ subject, workloadId: id, credentials, timeoutMs });
    }
  }
}

/** `{id}`, `{name}` and `{namespace}` stand for the workload's own, so that none is healthy because another one answers. */
function ownSubject(subject: string, own: Readonly<Record<'id' | 'name' | 'namespace', string>>): string {
  return subject.replaceAll(/\{(id|name|namespace)\}/g, (_, key: keyof typeof own) => own[key]);
}
