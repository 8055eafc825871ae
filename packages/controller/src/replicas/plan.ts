/** A replica, as far as a plan looks at it. */
export interface Candidate {
  readonly id: string;
  readonly revision: number;
  /** Id of its node, where known. */
  readonly node: string | undefined;
  /** Its node listed it last time. */
  readonly present: boolean;
  readonly running: boolean;
  /** It has run for long enough. */
  readonly stable: boolean;
  /** It ended, or never came up: what is left of it is to be cleared away. */
  readonly failed: boolean;
  /** It was told to stop. */
  readonly stopping: boolean;
  /** Its node ends soon. */
  readonly leaving: boolean;
}

export interface Goal {
  readonly revision: number;
  readonly wanted: number;
  readonly maxSurge: number;
  /** The revision has not run in all replicas yet, and there is one that has: it takes over step by step. */
  readonly proving: boolean;
}

export interface Plan {
  /** How many replicas of the goal's revision to start. */
  readonly start: number;
  /** Ids of replicas to stop. */
  readonly stop: string[];
}

/**
 * The next step towards a goal. Never more starts than replicas are missing, never fewer good replicas than wanted by a
 * step of its own, and while one revision replaces another never more than `maxSurge` replicas above those wanted.
 *
 * @param underway starts whose outcome is not known yet: of the goal's revision, and of others
 */
export function planReplicas(
  goal: Goal,
  replicas: readonly Candidate[],
  underway: { goal: number; other: number } = { goal: 0, other: 0 },
): Plan {
  const { revision, wanted, maxSurge, proving } = goal;
  const alive = replicas.filter(({ failed, stopping }) => !failed && !stopping);
  const isTarget = (replica: Candidate) => replica.revision === revision && !replica.leaving;
  const targets = alive.filter(isTarget);
  const others = alive.filter((replica) => !isTarget(replica));
  const ready = targets.filter(({ running, stable, present }) => present && (proving ? stable : running)).length;

  const missing = wanted - targets.length - underway.goal;
  const total = replicas.filter(({ failed }) => !failed).length + underway.goal + underway.other;
  const room = others.length === 0 && !proving ? missing : wanted + maxSurge - total;
  const unproven = targets.filter(({ stable }) => !stable).length + underway.goal;
  const start = Math.max(0, Math.min(missing, room, proving ? maxSurge - unproven : Infinity));

  const present = alive.filter((replica) => replica.present);
  const idle = others.filter((replica) => replica.present && !replica.running);
  const serving = others.filter((replica) => replica.present && replica.running);
  const stop = [
    ...replicas.filter((replica) => replica.failed && replica.present && !replica.stopping),
    ...idle,
    ...leastNeeded(serving, { count: serving.length - Math.max(0, wanted - ready), beside: present, proving }),
    ...leastNeeded(targets, {
      count: targets.filter((replica) => replica.present).length - wanted,
      beside: present,
      proving,
    }),
  ];
  return { start, stop: stop.map(({ id }) => id) };
}

/** Those to go first: on nodes that end, not running, not proven, of the oldest revision, on the node with most of them. */
function leastNeeded(
  replicas: readonly Candidate[],
  { count, beside, proving }: { count: number; beside: readonly Candidate[]; proving: boolean },
): Candidate[] {
  const left = replicas.filter(({ present }) => present);
  const crowd = new Map<string, number>();
  for (const { node } of beside) if (node !== undefined) crowd.set(node, (crowd.get(node) ?? 0) + 1);
  const crowdOf = ({ node }: Candidate) => (node === undefined ? 1 : (crowd.get(node) ?? 1));
  const chosen: Candidate[] = [];
  while (chosen.length < count) {
    const [next] = left.sort(
      (a, b) =>
        Number(b.leaving) - Number(a.leaving) ||
        Number(a.running) - Number(b.running) ||
        (proving ? Number(a.stable) - Number(b.stable) : 0) ||
        a.revision - b.revision ||
        crowdOf(b) - crowdOf(a) ||
        (a.id < b.id ? 1 : -1),
    );
    if (next === undefined) break;
    left.shift();
    chosen.push(next);
    if (next.node !== undefined) crowd.set(next.node, crowdOf(next) - 1);
  }
  return chosen;
}
