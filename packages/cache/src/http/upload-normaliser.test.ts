import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { decodeMentions } from '../manifests/mentions.ts';
import { UploadNormaliser } from './upload-normaliser.ts';

const hashes = (count: number) =>
  Array.from({ length: count }, (_, i) =>
    createHash('sha256').update(`${i}`).digest('hex').slice(0, 32).replace(/[e]/g, 'g'),
  );
const [A = '', B = ''] = hashes(2);

/** What is left of a NAR that comes in pieces of `size` bytes, and what was taken out. */
async function normalised(nar: Buffer, size: number) {
  const pieces = async function* () {
    for (let at = 0; at < nar.length; at += size) yield nar.subarray(at, at + size);
  };
  const normaliser = new UploadNormaliser();
  const rest = Buffer.concat(await Array.fromAsync(normaliser.normalise(pieces())));
  const mentions = normaliser.mentions();
  return { rest, mentions: mentions === undefined ? [] : [...decodeMentions(mentions, nar.length)] };
}

describe('UploadNormaliser', () => {
  it.each([1, 7, 43, 44, 45, 1000])('blanks store paths wherever pieces of %i bytes divide them', async (size) => {
    const text = `/nix/store/${A}-x and /nix/store/${B}-y, ${'-'.repeat(90)}/nix/store/${A}-/nix/store/${A}-z`;
    const nar = Buffer.from(text);
    const { rest, mentions } = await normalised(nar, size);
    expect(rest.toString()).toBe(text.replaceAll(A, '\0'.repeat(32)).replaceAll(B, '\0'.repeat(32)));
    expect(mentions.map(({ hash }) => hash)).toEqual([A, B, A, A]);
    for (const { start, hash } of mentions) rest.write(hash, start);
    expect(rest.equals(nar)).toBe(true);
    expect(nar.toString()).toBe(text);
  });

  it.each([
    `/nix/store/${A}`,
    `/nix/store/${A.slice(1)}-x`,
    `/nix/store/${A}x-y`,
    `/nix/store/${'e'.repeat(32)}-x`,
    `/gnu/store/${A}-x`,
    `${A}-x`,
    '/nix/store/',
    '',
  ])('leaves alone what is no store path: "%s"', async (text) => {
    const { rest, mentions } = await normalised(Buffer.from(text), 10);
    expect(rest.toString()).toBe(text);
    expect(mentions).toEqual([]);
  });

  it('leaves alone what is more than a manifest can list', async () => {
    const many = hashes(5000).map((hash) => `/nix/store/${hash}-x`);
    const different = await normalised(Buffer.from([...many, ...many].join('')), 100_000);
    expect(different.mentions).toHaveLength(2 * 4096);
    const alike = await normalised(Buffer.from(`/nix/store/${A}-x`.repeat(70_000)), 100_000);
    expect(alike.mentions).toHaveLength(65_536);
    expect(alike.rest.subarray(-100).toString()).toContain(A);
  });
});
