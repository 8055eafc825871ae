import { narOf, type NarTree } from '@nex-nix/nix';
import * as fc from 'fast-check';
import { narStrings } from '../src/nar/nar-format.ts';
import { entry, file, folder, link } from './nar-strings.ts';

/** Names and targets that go wrong, or out of the tree, where nobody looks. */
const NAMES = ['a', 'b', 'ab', 'a.', '..', '.', '', 'a/b', '../sentinel', '/tmp', 'a\0', '\n', 'ü', 'x'.repeat(255)];
const TARGETS = ['b', '../sentinel', '..', '/', '', 'a\0b', 'x'.repeat(4095), 'x'.repeat(4096)];
/** The words of the grammar, and some that are near. */
const WORDS = 'nix-archive-1 ( ) type regular directory symlink executable contents target entry name node file'.split(
  ' ',
);
const LENGTHS = [
  0n,
  1n,
  7n,
  8n,
  33n,
  255n,
  256n,
  4096n,
  2n ** 31n,
  2n ** 32n,
  2n ** 40n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

const CHARACTERS = ['\n', '\r', '\0', ' ', ':', '/', '-', '=', '0', '9', 'a', 'z', 'é', '"', '{', '}'];

type ValueOf<A> = A extends fc.Arbitrary<infer T> ? T : never;
type Strings = (string | Uint8Array)[];

const contents = fc.uint8Array({ maxLength: 40 });
const anyName = fc.oneof(fc.constantFrom(...NAMES), fc.uint8Array({ maxLength: 5 }));

/** The strings of a node, mostly right: names need not be in order, nor be names. */
const { node } = fc.letrec<{ node: Strings }>((tie) => ({
  node: fc.oneof(
    { depthSize: 'small' },
    contents.map((bytes) => file(bytes)),
    contents.map((bytes): Strings => ['(', 'type', 'regular', 'executable', '', 'contents', bytes, ')']),
    fc.constantFrom(...TARGETS).map((target) => link(target)),
    fc
      .array(fc.tuple(anyName, tie('node')), { maxLength: 4 })
      .map((entries) => folder(...entries.map((e) => entry(...e)))),
  ),
}));

/** One string missing, twice, in another place or another. */
const wordChange = fc.record({
  kind: fc.constantFrom('remove', 'repeat', 'swap', 'replace'),
  at: fc.nat(200),
  word: fc.oneof(fc.constantFrom(...WORDS, ...NAMES), contents),
});

function changeWord(strings: Strings, { kind, at, word }: ValueOf<typeof wordChange>): Strings {
  const index = at % strings.length;
  const here = strings[index] ?? '';
  if (kind === 'remove') return strings.toSpliced(index, 1);
  if (kind === 'repeat') return strings.toSpliced(index, 0, here);
  if (kind === 'replace') return strings.with(index, word);
  return strings.toSpliced(index, 2, strings[index + 1] ?? word, here);
}

/** NARs of any tree, with names in any order, and with none or a few strings changed. */
export const nearNar = fc
  .tuple(node, fc.array(wordChange, { maxLength: 2 }))
  .map(([strings, changes]) => narStrings(...changes.reduce(changeWord, ['nix-archive-1', ...strings])));

const goodName = anyName.filter((name) => {
  const bytes = Buffer.from(name);
  return (
    bytes.length > 0 && !bytes.includes(0) && !bytes.includes(0x2f) && !['.', '..'].includes(bytes.toString('latin1'))
  );
});

const { tree } = fc.letrec<{ tree: NarTree }>((tie) => ({
  tree: fc.oneof(
    { depthSize: 'small' },
    fc.record({ type: fc.constant('regular'), contents, executable: fc.boolean() }),
    fc.record({ type: fc.constant('symlink'), target: fc.constantFrom('b', '../sentinel', '/') }),
    fc.record({
      type: fc.constant('directory'),
      entries: fc.uniqueArray(fc.tuple(goodName, tie('tree')), {
        selector: ([name]) => Buffer.from(name).toString('hex'),
        maxLength: 4,
      }),
    }),
  ) as fc.Arbitrary<NarTree>,
}));

/** Bytes changed, cut out, put in, or a length in the place of eight bytes. */
const byteChange = fc.record({
  kind: fc.constantFrom('flip', 'remove', 'insert', 'length', 'end'),
  at: fc.nat(2000),
  value: fc.integer({ min: 1, max: 255 }),
  length: fc.constantFrom(...LENGTHS),
});

function changeByte(bytes: Buffer, { kind, at, value, length }: ValueOf<typeof byteChange>): Buffer {
  const index = at % (bytes.length + 1);
  const eight = Math.floor(index / 8) * 8;
  const changed = Buffer.from(bytes);
  if (kind === 'end') return changed.subarray(0, index);
  if (kind === 'remove') return Buffer.concat([changed.subarray(0, index), changed.subarray(index + (value % 16))]);
  if (kind === 'insert') {
    return Buffer.concat([changed.subarray(0, index), Buffer.alloc(value % 16, value), changed.subarray(index)]);
  }
  if (kind === 'length' && eight + 8 <= bytes.length) changed.writeBigUInt64LE(length, eight);
  else if (index < bytes.length) changed[index] = (changed[index] ?? 0) ^ value;
  return changed;
}

/** A right NAR, and what was done to its bytes. */
export const mutatedNar = fc.record({ tree, changes: fc.array(byteChange, { maxLength: 3 }) });

/** The bytes of a {@link mutatedNar}. */
export async function mutatedBytes({ tree, changes }: ValueOf<typeof mutatedNar>): Promise<Buffer> {
  return changes.reduce(changeByte, Buffer.concat(await Array.fromAsync(narOf(tree))));
}

/** Lines of `text` missing, twice, in another order, with parts of others, or with other characters. */
export function mutatedText(text: string): fc.Arbitrary<string> {
  const change = fc.record({
    kind: fc.constantFrom('remove', 'repeat', 'swap', 'value', 'flip', 'cut', 'insert'),
    at: fc.nat(5000),
    from: fc.nat(5000),
    character: fc.oneof(fc.constantFrom(...CHARACTERS), fc.string({ unit: 'binary', minLength: 1, maxLength: 1 })),
  });
  const apply = (current: string, { kind, at, from, character }: ValueOf<typeof change>): string => {
    const lines = current.split('\n');
    const index = at % lines.length;
    const other = lines[from % lines.length] ?? '';
    const place = at % (current.length + 1);
    if (kind === 'remove') return lines.toSpliced(index, 1).join('\n');
    if (kind === 'repeat') return lines.toSpliced(from % lines.length, 0, lines[index] ?? '').join('\n');
    if (kind === 'swap')
      return lines
        .with(index, other)
        .with(from % lines.length, lines[index] ?? '')
        .join('\n');
    if (kind === 'value')
      return lines.with(index, `${lines[index]?.split(': ')[0]}: ${other.split(': ')[1]}`).join('\n');
    if (kind === 'cut') return current.slice(0, place);
    return current.slice(0, place) + character + current.slice(place + (kind === 'flip' ? 1 : 0));
  };
  return fc.array(change, { maxLength: 3 }).map((changes) => changes.reduce(apply, text));
}
