import type { RegisterAgentRequest } from '@nex-nix/protocol';
import type { Agent } from '../agents/agent-registry.ts';
import type { NodeContext } from '../node-context.ts';
import type { DesiredState } from './desired-state.ts';
import type { DesiredWorkload } from './desired-workload.ts';

/**
 * How long the nexlets of one name that a node had before its restart may take to come back, in milliseconds. Until
 * then none of them gets what may be another one's.
 */
const RETURN_TIME = 60_000;

/** Which nexlet a workload belongs to. Two of them must never get one workload. */
export class Owners {
  readonly #node: NodeContext;
  readonly #state: DesiredState;

  constructor(node: NodeContext, state: DesiredState) {
    this.#node = node;
    this.#state = state;
  }

  /** The workloads that a nexlet may take when it registers. */
  claim(agentId: string, request: RegisterAgentRequest): DesiredWorkload[] {
    return this.#state.all().filter((workload) => {
      if (!isOfKind(workload, request)) return false;
      if (workload.owner?.xkey === request.public_xkey) return true;
      const other = this.#ownAgent(workload);
      if (other !== undefined && other.id !== agentId) return this.#node.registry.health(other) === 'offline';
      return !this.#isAmbiguous(workload);
    });
  }

  /** The nexlet that is to run a workload, if it is there and well. */
  agentFor(workload: DesiredWorkload): Agent | undefined {
    const { registry } = this.#node;
    const own = this.#ownAgent(workload);
    if (own !== undefined && registry.health(own) !== 'offline') {
      return registry.health(own) === 'healthy' ? own : undefined;
    }
    if (this.#isAmbiguous(workload)) return undefined;
    return registry.all().find((agent) => isOfKind(workload, agent.request) && registry.health(agent) === 'healthy');
  }

  #ownAgent({ owner, request }: DesiredWorkload): Agent | undefined {
    if (owner === undefined) return undefined;
    return this.#node.registry
      .all()
      .find(
        (agent) => agent.request.register_type === request.workload_type && agent.request.public_xkey === owner.xkey,
      );
  }

  /** Whether several nexlets of its owner's name had workloads: one that is not back may come back with them. */
  #isAmbiguous({ owner, request }: DesiredWorkload): boolean {
    if (owner === undefined || Date.now() - this.#node.startTime.getTime() > RETURN_TIME) return false;
    const keys = this.#state
      .all()
      .filter((other) => other.request.workload_type === request.workload_type && other.owner?.name === owner.name)
      .map((other) => other.owner?.xkey);
    return new Set(keys).size > 1;
  }
}

/** Whether a nexlet is of the type, and where that is known of the name, that a workload was given to. */
function isOfKind({ owner, request }: DesiredWorkload, { register_type: type, name }: RegisterAgentRequest): boolean {
  return request.workload_type === type && (owner === undefined || owner.name === name);
}
