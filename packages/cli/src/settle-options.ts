import { delimiter } from 'node:path';
import type { Command, Option } from 'commander';
import { invalidValue, kindOf } from './config-error.ts';
import { type Config, type Configured, readConfig } from './config-files.ts';
import { CONNECTION_OPTIONS, ENVIRONMENT, type GlobalOptions } from './global-options.ts';
import { parseFolders } from './parse.ts';

/** Commands whose own options a configuration file may hold. The others do one thing once: what, is said on the command line. */
const CONFIGURABLE = ['nex node up'];

const configs = new WeakMap<Command, Config>();

/** What the configuration files say, for what has no option; known once the options are settled. */
export function configOf(command: Command): Config {
  const config = configs.get(rootOf(command));
  if (config === undefined) throw new TypeError('The options are not settled yet');
  return config;
}

/**
 * Fills in what the command line does not say: from the configuration files, else from the environment.
 *
 * @throws {CliError} CLI_CONFIG_INVALID, CLI_USAGE
 */
export async function settleOptions(command: Command): Promise<void> {
  const root = rootOf(command);
  const config = await readConfig(root.opts<GlobalOptions>().config);
  configs.set(root, config);
  settle(root, config);
  if (!CONFIGURABLE.includes(pathOf(command))) return;
  config.checkEarlyKeys();
  settle(command, config);
}

function settle(command: Command, config: Config): void {
  const skipped = new Set(CONNECTION_OPTIONS.map((option) => option.name()));
  for (const option of command.options) {
    const name = option.name();
    if (skipped.has(name) || name === 'config' || name === 'version') continue;
    const key = option.attributeName();
    if (command.getOptionValueSource(key) === 'cli') continue;
    const configured = config.get(option.negate ? name.replace(/^no-/, '') : name);
    const text = process.env[ENVIRONMENT[key] ?? ''];
    if (configured !== undefined) {
      command.setOptionValueWithSource(key, valueOf(option, configured), 'config');
    } else if (text !== undefined && text !== '') {
      command.setOptionValueWithSource(key, parseValue(option, text, ENVIRONMENT[key] ?? ''), 'env');
    }
  }
}

/** What a configuration file says, as if it stood on the command line. */
export function valueOf(option: Option, { value, origin }: Configured): unknown {
  if (option.isBoolean() || option.negate) {
    if (typeof value === 'boolean') return value;
    throw invalidValue(origin, `it is ${kindOf(value)}, and must be true or false`);
  }
  // A list of folders is written as in PATH, all others with commas.
  const separator = option.parseArg === parseFolders ? delimiter : ',';
  return parseValue(option, textOf(value, { origin, separator }), origin);
}

function textOf(value: unknown, { origin, separator }: { origin: string; separator: string }): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value.join(separator);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const pairs = Object.entries(value);
    if (pairs.every(([, item]) => typeof item === 'string')) return pairs.map((pair) => pair.join('=')).join(';');
  }
  throw invalidValue(origin, `it is ${kindOf(value)}, and must be text`);
}

function parseValue(option: Option, text: string, origin: string): unknown {
  try {
    return option.parseArg === undefined ? text : option.parseArg(text, undefined);
  } catch (error) {
    // Both the parsers of this command and those of the option library throw on purpose what is to be shown.
    throw invalidValue(origin, (error as Error).message, error);
  }
}

/** `nex` itself, which has the global options. */
export function rootOf(command: Command): Command {
  return command.parent === null ? command : rootOf(command.parent);
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}
