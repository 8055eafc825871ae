import { createHash } from 'node:crypto';

const LONGEST = 64;

/** What the n-th sandbox of a function is called: `<workload id>-<n>`, or the hash of a workload id too long for that. */
export function sandboxIdOf(workloadId: string, n: number): string {
  const id = `${workloadId}-${n}`;
  if (id.length <= LONGEST) return id;
  return `${createHash('sha256').update(workloadId).digest('hex').slice(0, 40)}-${n}`;
}
