// What a page of the docs says to do. The form is described in ./README.md.

/** A command line and what the page shows below it. */
export interface Command {
  /** Line of the page, counted from 1. */
  readonly line: number;
  /** As bash takes it; more than one line where lines end with a backslash. */
  readonly text: string;
  /** Empty: the page shows none, and any will do. */
  readonly output: readonly string[];
}

export interface Block {
  /** Line of the opening fence, counted from 1. */
  readonly line: number;
  /** First word after the fence; empty when there is none. */
  readonly language: string;
  /** What is between the fences, without their indentation. */
  readonly content: readonly string[];
  /** What the comments right above say, by their first word or words. */
  readonly notes: ReadonlyMap<Note, string>;
}

/** Comments that mean something above a block. */
export const NOTES = ['not run', 'run by', 'needs', 'file', 'terminal', 'exit', 'eventually', 'stays up'] as const;
export type Note = (typeof NOTES)[number];

/** Blocks of these hold commands; those of any other language hold none. */
export const CONSOLE = 'console';

const FENCE = /^(?<indent> *)(?<fence>`{3,}|~{3,}) *(?<language>[^\s`]*)/;
const COMMENT = /^ *<!-- *(?<text>.*?) *--> *$/;
/** A command after its prompt, or the key that ends what stays up. */
const PROMPT = /^(?:\$ (?<text>.*)|(?<key>\^C))$/;

/** Instead of a command line: Ctrl-C. */
export const INTERRUPT = '^C';

/** All fenced blocks of a page. Throws when a fence is not closed, or a comment above one is not known. */
export function parsePage(markdown: string): Block[] {
  const lines = markdown.split('\n');
  const blocks: Block[] = [];
  let comments: string[] = [];
  for (let i = 0; i < lines.length; i++) {
    const comment = COMMENT.exec(lines[i] ?? '')?.groups?.['text'];
    const { indent = '', fence, language = '' } = FENCE.exec(lines[i] ?? '')?.groups ?? {};
    if (comment !== undefined) comments.push(comment);
    else if (fence !== undefined) {
      const end = lines.findIndex((line, j) => j > i && line.trim() === fence);
      if (end < 0) throw new SyntaxError(`Line ${i + 1} opens a block that nothing closes`);
      const content = lines.slice(i + 1, end).map((line) => line.replace(new RegExp(`^ {0,${indent.length}}`), ''));
      blocks.push({ line: i + 1, language, content, notes: parseNotes(comments, i + 1) });
      comments = [];
      i = end;
    } else if (lines[i]?.trim() !== '') comments = [];
  }
  return blocks;
}

function parseNotes(comments: readonly string[], line: number): Map<Note, string> {
  return new Map(
    comments.map((comment) => {
      const [, name = comment, value = ''] = /^([^:]*): *(.*)$/.exec(comment) ?? [];
      const note = NOTES.find((one) => one === name);
      if (note === undefined)
        throw new SyntaxError(`The comment "${comment}" above line ${line} is none of: ${NOTES.join(', ')}`);
      return [note, value];
    }),
  );
}

/** The commands of a block. Throws when something stands before the first. */
export function commandsOf(block: Block): Command[] {
  const commands: { line: number; text: string; output: string[] }[] = [];
  let isOpen = false;
  block.content.forEach((content, i) => {
    const line = block.line + 1 + i;
    const groups = PROMPT.exec(content)?.groups;
    const text = groups?.['text'] ?? groups?.['key'];
    const last = commands.at(-1);
    if (isOpen && last !== undefined) last.text += `\n${content}`;
    else if (text !== undefined) commands.push({ line, text, output: [] });
    else if (last !== undefined) last.output.push(content);
    else if (content.trim() !== '') throw new SyntaxError(`Line ${line} is not below a command`);
    isOpen = content.endsWith('\\') && (isOpen || text !== undefined);
  });
  for (const { output } of commands) while (output.at(-1)?.trim() === '') output.pop();
  return commands;
}
