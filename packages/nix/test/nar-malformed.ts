import { narStrings } from '../src/nar/nar-format.ts';
import { entry, file, folder, link, nar, nested } from './nar-strings.ts';

/** A NAR that is right up to the end of `before`, and cannot be after it. */
export interface MalformedNar {
  readonly title: string;
  readonly before: Buffer;
  readonly after: Buffer;
  /** In the message of the error. */
  readonly why: string;
  /** The Nix that unpacks it nevertheless. */
  readonly acceptedBy?: '2.8' | 'any';
}

type Strings = (string | Uint8Array)[];

const DIRECTORY: Strings = ['(', 'type', 'directory'];
const REGULAR: Strings = ['(', 'type', 'regular'];
const NAMED: Strings = [...DIRECTORY, 'entry', '(', 'name'];
const FULL: Strings = [...DIRECTORY, ...entry('a', file('12345'))];
const length = (...bytes: number[]): Buffer => Buffer.from(bytes);

/** With what a reader that does not mind would need to come to a good end. */
function badName(name: string, why: string, acceptedBy?: '2.8' | 'any'): MalformedNar {
  const after = narStrings(name, 'node', ...file(''), ')', ')');
  return of(`the name ${JSON.stringify(name.slice(0, 20))} of ${name.length} bytes`, nar(...NAMED), after, [
    why,
    acceptedBy,
  ]);
}

function badEntry(title: string, good: Strings, bad: Strings, [why, acceptedBy]: Why): MalformedNar {
  return of(title, nar(...DIRECTORY, ...good, 'entry', '(', 'name'), narStrings(...bad.slice(3), ')'), [
    why,
    acceptedBy,
  ]);
}

type Why = readonly [why: string, acceptedBy?: '2.8' | 'any'];

function of(title: string, before: Buffer, after: Buffer, [why, acceptedBy]: Why): MalformedNar {
  return { title, before, after, why, ...(acceptedBy === undefined ? {} : { acceptedBy }) };
}

function badStrings(title: string, before: Strings, after: Strings, why: Why): MalformedNar {
  return of(title, nar(...before), narStrings(...after), why);
}

/** One byte of padding that is not zero. */
function badPadding(title: string, bytes: Buffer, at: number): MalformedNar {
  const after = Buffer.from(bytes.subarray(at));
  after[0] = 1;
  return of(title, bytes.subarray(0, at), after, ['padding is not zero']);
}

export const MALFORMED_NARS: readonly MalformedNar[] = [
  of('another magic', Buffer.alloc(0), narStrings('nix-archive-2', ...file('')), ['expected "nix-archive-1"']),
  of('nothing', Buffer.alloc(0), Buffer.alloc(0), ['it ends here']),
  of('the magic alone', nar(), Buffer.alloc(0), ['it ends here']),
  of('a second root', nar(...file('')), nar(...file('')), ['more bytes follow the end', 'any']),
  of('zeros at the end', nar(...FULL, ')'), Buffer.alloc(8), ['more bytes follow the end', 'any']),
  of('an end within a length', nar(...DIRECTORY).subarray(0, -13), Buffer.alloc(0), ['it ends here']),
  of('an end within contents', nar(...REGULAR, 'contents', '12345678').subarray(0, -4), Buffer.alloc(0), [
    'it ends here',
  ]),

  badEntry('an entry out of order', entry('b', file('')), entry('a', file('')), [
    'the name "a" comes after "b"',
    '2.8',
  ]),
  badEntry('a longer name first', entry('ab', file('')), entry('a', file('')), [
    'the name "a" comes after "ab"',
    '2.8',
  ]),
  badEntry('UTF-16 order', entry('\u{1F600}', file('')), entry('\uFFEE', file('')), ['comes after', '2.8']),
  badEntry('a file twice', entry('a', file('')), entry('a', file('')), ['the name "a" appears twice']),
  badEntry('a folder twice', entry('a', folder()), entry('a', folder()), ['appears twice']),
  badEntry('a folder over a link', entry('a', link('/tmp')), entry('a', folder(entry('x', file('')))), [
    'appears twice',
  ]),
  badEntry('a file over a link', entry('a', link('/tmp/x')), entry('a', file('')), ['appears twice']),

  badName('..', 'the name ".." is "." or ".."'),
  badName('.', 'the name "." is "." or ".."'),
  badName('', 'the name "" is empty'),
  badName('a/b', 'the name "a/b" contains "/"'),
  badName('/etc/passwd', 'contains "/"'),
  badName('a\0b', 'contains a NUL'),
  badName('x'.repeat(256), 'a string is longer than 255 bytes'),

  badStrings('an empty target', ['(', 'type', 'symlink', 'target'], ['', ')'], ['the link target "" is empty']),
  badStrings('NUL in a target', ['(', 'type', 'symlink', 'target'], ['a\0b', ')'], ['contains a NUL', '2.8']),
  badStrings(
    'a target of 4096 bytes',
    ['(', 'type', 'symlink', 'target'],
    ['x'.repeat(4096), ')'],
    ['a string is longer than 4095 bytes'],
  ),

  badStrings('a tag of 33 bytes', [], ['('.repeat(33)], ['a string is longer than 32 bytes']),
  of('a tag of 2^40 bytes', nar(), length(0, 0, 0, 0, 0, 1, 0, 0), ['a string is longer than 32 bytes']),
  of('a name of 2^63 bytes', nar(...NAMED), length(0, 0, 0, 0, 0, 0, 0, 0x80), ['a string is longer than 255 bytes']),
  of('a file of 2^64 - 1 bytes', nar(...REGULAR, 'contents'), Buffer.alloc(8, 0xff), ['a file is impossibly large']),
  of('a file of 2^53 bytes', nar(...REGULAR, 'contents'), length(0, 0, 0, 0, 0, 0, 0x20, 0), [
    'a file is impossibly large',
  ]),

  badPadding('non-zero padding of the magic', nar(...file('')), 21),
  badPadding('non-zero last byte of padding', nar(...file('')), 23),
  badPadding('non-zero padding of a name', nar(...FULL, ')'), nar(...NAMED).length + 8 + 1),
  badPadding('non-zero padding of contents', nar(...file('12345')), nar(...REGULAR, 'contents').length + 8 + 5),
  badPadding('non-zero last padding of contents', nar(...file('12345')), nar(...REGULAR, 'contents').length + 15),

  badStrings('a file without contents', REGULAR, [')'], ['expected "executable" or "contents"', '2.8']),
  badStrings(
    'executable after contents',
    [...REGULAR, 'contents', ''],
    ['executable', '', ')'],
    ['expected ")"', '2.8'],
  ),
  badStrings('executable alone', [...REGULAR, 'executable', ''], [')'], ['expected "contents"', '2.8']),
  badStrings(
    'executable with a value',
    [...REGULAR, 'executable'],
    ['x', 'contents', '', ')'],
    ['found "x", expected ""'],
  ),
  badStrings(
    'executable twice',
    [...REGULAR, 'executable', ''],
    ['executable', '', 'contents', '', ')'],
    ['expected "contents"', '2.8'],
  ),
  badStrings('two contents', [...REGULAR, 'contents', 'a'], ['contents', 'b', ')'], ['expected ")"', '2.8']),
  badStrings('an unknown field of a file', [...REGULAR], ['mode', '755', 'contents', '', ')'], ['found "mode"']),
  badStrings('no type', ['('], [')'], ['expected "type"', '2.8']),
  badStrings('two types', REGULAR, ['type', 'regular', 'contents', '', ')'], ['found "type"']),
  badStrings('an unknown type', ['(', 'type'], ['device', ')'], ['expected "regular", "symlink" or "directory"']),
  badStrings('a link without target', ['(', 'type', 'symlink'], [')'], ['expected "target"', '2.8']),
  badStrings('two targets', ['(', 'type', 'symlink', 'target', 'a'], ['target', 'b', ')'], ['expected ")"']),
  badStrings('an entry without node', [...NAMED, 'a'], [')', ')'], ['expected "node"', '2.8']),
  badStrings(
    'an entry without name',
    [...DIRECTORY, 'entry', '('],
    ['node', ...file(''), ')', ')'],
    ['expected "name"'],
  ),
  badStrings(
    'an entry with two nodes',
    [...NAMED, 'a', 'node', ...file('')],
    ['node', ...file(''), ')', ')'],
    ['expected ")"'],
  ),
  badStrings(
    'a node before its name',
    [...DIRECTORY, 'entry', '('],
    ['node', ...file(''), 'name', 'a', ')', ')'],
    ['expected "name"'],
  ),
  badStrings('contents of a folder', DIRECTORY, ['contents', 'x', ')'], ['expected "entry" or ")"']),
  of(
    'a node at depth 64',
    nar(...Array.from({ length: 64 }, () => [...NAMED, 'd', 'node']).flat()),
    nar(...nested(64)).subarray(nar(...Array.from({ length: 64 }, () => [...NAMED, 'd', 'node']).flat()).length),
    ['it is nested deeper than 64 levels', '2.8'],
  ),
];
