import type { Command } from 'commander';
import { Option } from 'commander';
import { positive } from './parse.ts';
import { parseDuration } from './units.ts';
import { VERSION } from './version.ts';

/** The options that every command takes, under the names that the parser gives them. */
export interface GlobalOptions {
  config?: string;
  namespace: string;
  json?: boolean;
  check?: boolean;
  debug?: boolean;
  /** In milliseconds: how long to wait for the other side. */
  timeout?: number;
  'nats.connName'?: string;
  /** In milliseconds: how long the whole command may take. */
  'nats.timeout'?: number;
  'logger.target'?: string;
  'logger.level'?: string;
  'logger.color'?: boolean;
  'logger.short'?: boolean;
  'logger.withPid'?: boolean;
  'logger.groupOnRight'?: boolean;
  'logger.lineInfo'?: boolean;
  'logger.timefmt'?: string;
}

/** What says where to connect and as whom; read by {@link import('./connection.ts')}, since several sources add up there. */
export const CONNECTION_OPTIONS = [
  new Option('--context <name>', 'natscli context to connect with (NATS_CONTEXT); default: the selected one'),
  new Option('--nats.context <name>', 'the same as --context, as Go nex spells it').hideHelp(),
  new Option('-s, --nats.servers <urls>', 'NATS servers, separated by commas (NATS_URL)'),
  new Option('--nats.creds-file <file>', 'credentials file (NATS_CREDS)'),
  new Option('--nats.jwt <jwt>', 'user JWT, with --nats.seed (NATS_JWT)'),
  new Option('--nats.seed <seed>', "user's nkey seed (NATS_SEED)"),
  new Option('--nats.nkey <key>', "user's public nkey, with --nats.seed; or a file with the seed (NATS_NKEY)"),
  new Option('--nats.user <name>', 'user name (NATS_USER)'),
  new Option('--nats.password <password>', 'password (NATS_PASSWORD)'),
  new Option('--nats.tlscert <file>', 'TLS certificate (NATS_CERT)'),
  new Option('--nats.tlskey <file>', 'key of that certificate (NATS_KEY)'),
  new Option('--nats.tlsca <file>', 'certificates of authorities (NATS_CA)'),
  new Option('--nats.tlsfirst', 'TLS before the server says anything'),
  new Option('--nats.jsdomain <domain>', 'JetStream domain'),
] as const;

/** Variables of the environment that stand for options; those of {@link CONNECTION_OPTIONS} are the connection's business. */
export const ENVIRONMENT: Readonly<Record<string, string>> = {
  namespace: 'NEX_NAMESPACE',
  timeout: 'NATS_TIMEOUT',
};

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'];
const TIME_FORMATS = ['DateTime', 'TimeOnly', 'DateOnly', 'Stamp', 'RFC822', 'RFC3339'];

/** Adds what every command takes. */
export function addGlobalOptions(program: Command): Command {
  program
    .version(VERSION, '-V, --version', 'print the version')
    .option('--config <file>', 'one more configuration file (JSON)')
    .option('--namespace <name>', 'namespace to act in (NEX_NAMESPACE)', 'system')
    .option('--json', 'print JSON')
    .option('--check', 'print what the options amount to, and do nothing')
    .option('--debug', 'print stack traces and debug lines')
    .option('--timeout <duration>', 'how long to wait for the other side (NATS_TIMEOUT)', parseTimeout)
    .option('--nats.timeout <duration>', 'how long the whole command may take', parseDuration)
    .option('--nats.conn-name <name>', 'name of the connection', `nex-${VERSION}`);
  for (const option of CONNECTION_OPTIONS) program.addOption(option);
  program
    .addOption(new Option('-l, --logger.level <level>', 'least level of log lines').choices(LOG_LEVELS).default('info'))
    .option('--logger.target <targets>', 'where log lines go: std, file (nex.log and nex.err), or both', 'std')
    .addOption(new Option('--logger.timefmt <format>', 'time of log lines').choices(TIME_FORMATS).default('DateTime'));
  const hidden = {
    '--logger.color': 'colours in log lines, also where no terminal is',
    '--logger.short': 'short levels',
    '--logger.with-pid': 'process id in log lines',
    '--logger.group-on-right': 'component behind the message',
    '--logger.line-info': 'accepted: there is no such thing to show',
    '--disable-upgrade-check': 'accepted: nothing asks for upgrades',
    '--auto-upgrade': 'accepted: nothing asks for upgrades',
    '--dev-mode': 'accepted: has no effect in Go nex either',
  };
  for (const [flags, what] of Object.entries(hidden)) program.addOption(new Option(flags, what).hideHelp());
  return program;
}

/** A bare number is seconds. */
function parseTimeout(text: string): number {
  return /^[\d.]+$/.test(text) ? positive('a number of seconds')(text) * 1_000 : parseDuration(text);
}
