import type { PathInfo } from '@nex-nix/nix';
import { noise, type TreeSource } from './fixture.ts';

const MIB = 1 << 20;

/** The same closure of three paths for the same number, whose contents name each other. */
export async function addRound(
  source: TreeSource,
  round: number,
): Promise<{ base: PathInfo; middle: PathInfo; top: PathInfo }> {
  const base = await source.add(`base-${round}`, { 'base.bin': noise(2 * MIB, round) });
  const middleFiles = { 'middle.bin': noise(2 * MIB, 100 + round), link: base.storePath };
  const middle = await source.add(`middle-${round}`, middleFiles, { references: [base.storePath] });
  const top = await source.add(`top-${round}`, { run: middle.storePath }, { references: [middle.storePath] });
  return { base, middle, top };
}
