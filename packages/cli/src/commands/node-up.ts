import { Command, Option } from 'commander';
import { addBridgeOptions } from '../bridge-options.ts';
import { CliError } from '../cli-error.ts';
import { action } from '../context.ts';
import { untilStdinEnds } from '../end-with-stdin.ts';
import { addMachineOptions } from '../machine-options.ts';
import { parsePort, parseTags } from '../parse.ts';
import type { NodeDaemonOptions } from '../node-daemon.ts';
import { stateDirOption } from '../state-folder.ts';
import { addStorageOptions } from '../storage-options.ts';
import { parseDuration } from '../units.ts';
import { addWorkloadDefaults } from '../workload-defaults.ts';

export const nodeUp = (): Command => {
  const command = new Command('up').description('Run a node on this machine, with the nix nexlet and its cache');
  addIdentity(command);
  addWork(command);
  addStorageOptions(command, { what: ", the node's state, the controller, kept logs and events" });
  addWorkloadDefaults(command);
  addMachineOptions(command);
  addBridgeOptions(command);
  addMetrics(command);
  addCredentials(command);
  addAccepted(command);
  return command
    .addHelpText(
      'after',
      '\nNexlets that run as processes of their own are listed in a configuration file:' +
        '\n  "agents": [{"uri":"file:///opt/nexlet","argv":["run"],"env":{"A":"1"}}]' +
        '\n\nExamples:\n  nex node up --tags region=lab\n  nex --context ExpNode node up --on-shutdown leave --retain',
    )
    .action(
      action<NodeDaemonOptions & { inatsConfig?: string }>(async (context, options) => {
        if (options.inatsConfig !== undefined) throw noServerInside();
        const { runNodeDaemon } = await import('../node-daemon.ts');
        await runNodeDaemon(context, options);
        return undefined;
      }),
    );
};

/** Who the node is and what it keeps. */
function addIdentity(command: Command): void {
  command
    .option('--node-name <name>', 'name of the node; default: the host name')
    .option('--nexus <name>', 'group of nodes it belongs to', 'nexus')
    .option('--tags <tags>', 'k=v;k2=v2: what workloads may ask for', parseTags)
    .addOption(stateDirOption('identity, store, sandboxes and cache key'))
    .option(
      '--node-seed <seed>',
      'server seed SN…, or the path of a file with it: who the node is, in place of what its state folder says',
    )
    .option('--node-xkey-seed <seed>', 'curve seed SX…, or the path of a file with it, likewise')
    .addOption(
      new Option('--state <where>', 'where it keeps what it is to run: kv or none')
        .argParser(oneOrEmpty(['kv', 'none'], 'a place for the state'))
        .default('', 'kv where JetStream is'),
    )
    .addOption(
      new Option('--events <where>', 'where its events go: nats, logs or none')
        .argParser(oneOrEmpty(['nats', 'logs', 'none'], 'a place for events'))
        .default('nats'),
    )
    .option('--retain', 'make the stream that keeps logs and events, where there is none');
}

/** What it runs. */
function addWork(command: Command): void {
  command
    .option('--max-workloads <number>', 'how many workloads it takes; 0: as many as come', parseCount, 0)
    .addOption(
      new Option('--auction-ttl <duration>', 'how long a bid holds').argParser(parseDuration).default(10_000, '10s'),
    )
    .option('--agent-restart-limit <number>', 'how often a nexlet that ends is started again', parseCount, 3)
    .option('--allow-remote-agent-registration', 'take nexlets that nobody has started here')
    .option('--show-workload-logs', 'log what workloads print')
    .option(
      '--trusted-public-keys <keys>',
      "more keys to trust, Nix's syntax, separated by spaces; the cache's own is trusted",
    )
    .option(
      '--cache-key-file <file>',
      'key that its cache signs with; default: that of the context (nex cache keygen), else one of its own in the state folder',
    )
    .option('--no-controller', 'leave replicated workloads to the controllers of other nodes')
    .addOption(
      new Option(
        '--cgroup-parent <path>',
        'cgroup that workloads are put below, from the root of the tree; default: /',
      ).argParser(parseCgroup),
    )
    .option('--allow-unlimited', 'run workloads even where this machine cannot enforce their limits')
    .addOption(
      new Option('--on-shutdown <what>', 'what happens to running workloads when the node ends')
        .choices(['stop', 'leave'])
        .default('stop'),
    )
    .addOption(untilStdinEnds());
}

/** Who may look at it. */
function addMetrics(command: Command): void {
  command
    .option(
      '--metrics-port <port>',
      'serve /metrics for Prometheus, and /healthz, over HTTP; 0: a free port',
      parsePort,
    )
    .option('--metrics-address <address>', 'where to listen for that', '127.0.0.1');
}

/** What its nexlets and workloads may do on NATS. */
function addCredentials(command: Command): void {
  command
    .option(
      '--issuer-signing-key <seed>',
      'account signing key that mints credentials: SA…, or a file with it (NEX_ISSUER_SIGNING_KEY)',
    )
    .option('--issuer-signing-key-root-account <key>', 'public key of that account: A… (NEX_ISSUER_ROOT_ACCOUNT)')
    .option('--issuer-nkey <key>', 'public nkey of a user, U…, that all nexlets and workloads share')
    .option('--issuer-nkey-seed <seed>', 'its seed: SU…, or a file with it')
    .option('--credentials-ttl <duration>', 'how long those of nexlets hold; default: 1d', parseDuration)
    .option('--workload-credentials-ttl <duration>', 'how long those of workloads hold; default: 30d', parseDuration)
    .option(
      '--workload-publish <subjects>',
      'may be published to too; {namespace}, {id}, {name} are filled in',
      parseList,
    )
    .option('--workload-subscribe <subjects>', 'may be subscribed to too, written likewise', parseList)
    .option('--private-inboxes', 'let workloads listen to inboxes below their own prefix only')
    .option(
      '--issuer-operator-seed <file>',
      'seed of the operator: takes credentials back when a workload stops (NEX_ISSUER_OPERATOR_SEED)',
    )
    .option('--system-context <name>', 'context of a user of the system account, for that (NEX_SYSTEM_CONTEXT)');
}

/** Go nex has them; here they have nothing to change. */
function addAccepted(command: Command): void {
  command
    .addOption(new Option('--disable-native-start', 'accepted: there is no native nexlet').hideHelp())
    .addOption(new Option('--resource-directory <folder>', 'accepted: has no effect in Go nex either').hideHelp())
    .addOption(new Option('--inats-config <file>', 'refused: nex dev starts a server').hideHelp());
}

function noServerInside(): CliError {
  return new CliError('CLI_USAGE', 'Cannot use --inats-config: nodes of this project have no NATS server inside', {
    hint: 'nex dev runs a server on this machine; or start nats-server with that file, and give its URL by -s',
  });
}

function parseCgroup(text: string): string {
  if (/^(\/[\w.@:-]+)+$/.test(text) && !text.split('/').includes('..')) return text;
  throw new CliError('CLI_USAGE', `Cannot take "${text}" for a cgroup: write its path, for example /nex.slice`);
}

function parseCount(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new CliError('CLI_USAGE', `Cannot take "${text}" for a number: write a whole number, 0 or above`);
}

/** `a,b`; the option may be given several times. */
function parseList(text: string, previous: string[] = []): string[] {
  return [...previous, ...text.split(',').map((item) => item.trim())].filter((item) => item !== '');
}

/** Go nex takes an empty text for its default, which no list of choices can show. */
function oneOrEmpty(choices: readonly string[], what: string): (text: string) => string {
  return (text) => {
    if (text === '' || choices.includes(text)) return text;
    throw new CliError('CLI_USAGE', `Cannot take "${text}" for ${what}: write ${choices.join(' or ')}`);
  };
}
