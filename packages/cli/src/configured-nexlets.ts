import type { LocalNexletSpec } from '@nex-nix/node';
import { CliError } from './cli-error.ts';
import type { Configured } from './config-files.ts';

/** The list `agents` of a configuration file: `[{"uri":"file:///opt/nexlet","argv":["run"],"env":{"A":"1"}}]`, as Go nex has it. */
export function configuredNexlets(agents: Configured | undefined): LocalNexletSpec[] {
  if (agents === undefined) return [];
  const { value, origin } = agents;
  if (!Array.isArray(value)) throw invalid(origin, 'it is no list');
  return value.map((entry: unknown, index) => nexletOf(entry, `entry ${index + 1} of ${origin}`));
}

function nexletOf(entry: unknown, origin: string): LocalNexletSpec {
  if (typeof entry !== 'object' || entry === null) throw invalid(origin, 'it is no object');
  const { uri, argv, env } = entry as Record<string, unknown>;
  if (typeof uri !== 'string' || uri === '') throw invalid(origin, '"uri" must be the path of a program');
  if (!isAbsent(argv) && !isTexts(argv)) throw invalid(origin, '"argv" must be a list of texts');
  if (!isAbsent(env) && !(typeof env === 'object' && isTexts(Object.values(env)))) {
    throw invalid(origin, '"env" must be an object of texts');
  }
  return { uri, ...(isAbsent(argv) ? {} : { argv }), ...(isAbsent(env) ? {} : { env: env as Record<string, string> }) };
}

function isAbsent(value: unknown): value is undefined | null {
  return value === undefined || value === null;
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function invalid(origin: string, why: string): CliError {
  return new CliError('CLI_CONFIG_INVALID', `Cannot use ${origin}: ${why}`, {
    hint: 'It looks like this: "agents": [{"uri":"file:///opt/nexlet","argv":["run"],"env":{"A":"1"}}]',
  });
}
