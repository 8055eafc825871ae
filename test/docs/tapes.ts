// What a tape of vhs types and where its gif goes. Its language: https://github.com/charmbracelet/vhs#vhs-command-reference

export interface Tape {
  /** Path of the gif from the root of the repository. */
  output: string | undefined;
  /** Lines that are typed and sent by Enter. */
  typed: string[];
}

const LINES = [
  /^Output (?<output>\S+\.gif)$/,
  /^Type(?:@\d+ms)? (?<quote>["'`])(?<text>.*)\k<quote>$/,
  /^(?:Enter|Ctrl\+C|Up|Down|Hide|Show|Tab)(?: \d+)?$/,
  /^Sleep \d+(?:\.\d+)?(?:ms|s)$/,
  /^Wait(?:\+(?:Screen|Line))?(?:@\d+s)? \/.*\/$/,
  /^Set (?:Shell|FontSize|Width|Height|Theme|Padding|TypingSpeed|Framerate|PlaybackSpeed|WaitTimeout) .+$/,
  /^(?:Require|Env) .+$/,
  /^Source \S+\.tape$/,
  /^(?:#.*)?$/,
];

/** Throws at a line that is none of what tapes here are made of. */
export function tapeCommands(tape: string): Tape {
  let output: string | undefined;
  let line = '';
  const typed: string[] = [];
  tape.split('\n').forEach((text, i) => {
    const match = LINES.map((pattern) => pattern.exec(text)).find((found) => found !== null);
    if (match === undefined || match === null) throw new SyntaxError(`Line ${i + 1} of the tape is not known: ${text}`);
    output ??= match.groups?.['output'];
    line += match.groups?.['text'] ?? '';
    if (text.startsWith('Enter') && line !== '') {
      typed.push(line);
      line = '';
    }
  });
  return { output, typed };
}
