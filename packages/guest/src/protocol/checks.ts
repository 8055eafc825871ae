import { GuestError } from '../guest-error.ts';

/** Gives a value as the type that it is checked for. `at`: where it is, for the message. Throws GUEST_PROTOCOL. */
export type Check<T> = (value: unknown, at: string) => T;

/** What a check gives. */
type Checked<C> = C extends Check<infer T> ? T : never;

type Fields = Readonly<Record<string, Check<unknown>>>;
type OptionalKeys<F extends Fields> = { [K in keyof F]: undefined extends Checked<F[K]> ? K : never }[keyof F];
type ObjectOf<F extends Fields> = { [K in Exclude<keyof F, OptionalKeys<F>>]: Checked<F[K]> } & {
  [K in OptionalKeys<F>]?: Checked<F[K]>;
};

/** An object with these fields; others are left out of what is given. */
export function object<F extends Fields>(fields: F): Check<ObjectOf<F>> {
  return (value, at) => {
    const from = plainObject(value, at);
    const result: Record<string, unknown> = {};
    for (const [name, check] of Object.entries(fields)) {
      const checked = check(Object.hasOwn(from, name) ? from[name] : undefined, `${at}.${name}`);
      if (checked !== undefined) result[name] = checked;
    }
    return result as ObjectOf<F>;
  };
}

/** An object whose names and values are all alike. */
export function record<T>(name: RegExp, check: Check<T>): Check<Record<string, T>> {
  return (value, at) => {
    const entries = Object.entries(plainObject(value, at));
    const bad = entries.find(([key]) => !name.test(key));
    if (bad !== undefined) throw not(at, `an object with names like ${name.source}`);
    return Object.fromEntries(entries.map(([key, item]) => [key, check(item, `${at}.${key}`)]));
  };
}

export function list<T>(check: Check<T>, limit = Infinity): Check<T[]> {
  return (value, at) => {
    if (!Array.isArray(value) || value.length > limit) throw not(at, `a list of at most ${limit}`);
    return value.map((item: unknown, index) => check(item, `${at}[${index}]`));
  };
}

export function optional<T>(check: Check<T>): Check<T | undefined> {
  return (value, at) => (value === undefined ? undefined : check(value, at));
}

/** Text of at most `limit` characters. */
export function text(limit: number, pattern?: RegExp): Check<string> {
  return (value, at) => {
    if (typeof value !== 'string' || value.length > limit) throw not(at, `text of at most ${limit} characters`);
    if (pattern !== undefined && !pattern.test(value)) throw not(at, `text like ${pattern.source}`);
    return value;
  };
}

/** Text without NUL. Looked through by hand: an expression needs memory for each character of what may be long. */
export function textWithoutNul(limit: number): Check<string> {
  const check = text(limit);
  return (value, at) => {
    const checked = check(value, at);
    if (checked.includes('\0')) throw not(at, 'text without NUL');
    return checked;
  };
}

/** Base64 of at least and at most so many bytes. */
export function base64(least: number, limit: number): Check<string> {
  const check = text(Math.ceil(limit / 3) * 4);
  return (value, at) => {
    const checked = check(value, at);
    const bytes = Buffer.from(checked, 'base64');
    if (bytes.length < least || bytes.toString('base64') !== checked)
      throw not(at, `base64 of at least ${least} bytes`);
    return checked;
  };
}

/** A whole number. */
export function integer(least: number, limit = Number.MAX_SAFE_INTEGER): Check<number> {
  return (value, at) => {
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= limit) return value;
    throw not(at, `a whole number from ${least} to ${limit}`);
  };
}

/** A number above zero. */
export const positive: Check<number> = (value, at) => {
  if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
  throw not(at, 'a number above 0');
};

export const boolean: Check<boolean> = (value, at) => {
  if (typeof value !== 'boolean') throw not(at, 'true or false');
  return value;
};

export function oneOf<const T extends string>(...values: readonly T[]): Check<T> {
  return (value, at) => {
    const found = values.find((one) => one === value);
    if (found === undefined) throw not(at, `one of ${values.join(', ')}`);
    return found;
  };
}

/** What nobody looks at. */
export const nothing: Check<undefined> = () => undefined;

function plainObject(value: unknown, at: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw not(at, 'an object');
  return value as Record<string, unknown>;
}

/** The value stays out of it: it may be a secret, and it may be anything. */
function not(at: string, expected: string): GuestError {
  return new GuestError('GUEST_PROTOCOL', `Cannot understand a message: "${at}" is not ${expected}`);
}
