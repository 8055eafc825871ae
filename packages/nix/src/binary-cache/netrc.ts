import { NixError } from '../nix-error.ts';

/** A user name and its password. */
export interface Login {
  readonly login: string;
  readonly password: string;
}

type Token = { readonly text: string; readonly line: number };

/**
 * What a netrc file says for a host: the first `machine` of that name, or else `default`. Words may stand in double quotes with `\` escapes,
 * `#` begins a comment, `account` and `macdef` are passed over. Source of the format: netrc(5), and curl's additions to it.
 *
 * @param origin the name of the file, for the error, which shows nothing of its content.
 * @throws {@link NixError} `NIX_NETRC_INVALID`.
 */
export function netrcLogin(text: string, host: string, origin: string): Login | undefined {
  const tokens = tokenize(text, origin);
  let current: { login?: string; password?: string } | undefined;
  let machine: typeof current;
  let fallback: typeof current;
  for (let at = 0; at < tokens.length; at++) {
    const { text: word, line } = tokens[at] as Token;
    if (word === 'default') {
      current = {};
      fallback ??= current;
      continue;
    }
    const value = tokens[++at];
    if (value === undefined) throw invalid(origin, line, 'its last word has no value');
    if (word === 'machine') {
      current = {};
      if (value.text.toLowerCase() === host.toLowerCase()) machine ??= current;
    } else if (word === 'login' || word === 'password') {
      if (current === undefined) throw invalid(origin, line, `"${word}" comes before any "machine"`);
      current[word] = value.text;
    } else if (word !== 'account') {
      throw invalid(origin, line, 'a word is none of machine, default, login, password, account, macdef');
    }
  }
  const found = machine ?? fallback;
  return found === undefined ? undefined : { login: found.login ?? '', password: found.password ?? '' };
}

function tokenize(text: string, origin: string): Token[] {
  const tokens: Token[] = [];
  let inMacro = false;
  for (const [index, content] of text.split('\n').entries()) {
    const line = index + 1;
    // A macro ends with the first empty line.
    if (inMacro) {
      inMacro = content.trim() !== '';
      continue;
    }
    const word = /\s*(?:#.*$|"((?:[^"\\]|\\.)*)"(?=\s|$)|([^\s"]\S*))/y;
    while (word.lastIndex < content.trimEnd().length) {
      const match = word.exec(content);
      if (match === null) throw invalid(origin, line, 'a quoted word does not end');
      const value = match[2] ?? match[1]?.replace(/\\(.)/g, (_, symbol: string) => ESCAPES[symbol] ?? symbol);
      if (value === undefined) break;
      if (value === 'macdef' && match[1] === undefined && !expectsValue(tokens)) {
        inMacro = true;
        break;
      }
      tokens.push({ text: value, line });
    }
  }
  return tokens;
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

/** Whether the next word is the value of the last one, so that a password may be called `macdef`. */
function expectsValue(tokens: readonly Token[]): boolean {
  let expects = false;
  for (const { text } of tokens) expects = !expects && text !== 'default';
  return expects;
}

function invalid(origin: string, line: number, why: string): NixError {
  return new NixError('NIX_NETRC_INVALID', `Cannot read the netrc file "${origin}": line ${line}: ${why}`, {
    hint: 'A line looks like: machine HOST login USER password PASSWORD',
  });
}
