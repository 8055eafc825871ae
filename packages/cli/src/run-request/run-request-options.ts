import { type Command, Option } from 'commander';
import { positive } from '../parse.ts';
import {
  parseOpenPort,
  parseProbe,
  parseRequestDuration,
  parseRequestSize,
  parseRestart,
  parseSignal,
  parseTrigger,
  type Probe,
  repeated,
  type Restart,
  wholeNumber,
} from './parse-run-options.ts';

/** What options say of how a workload of type nix runs; each stands for a field of its start request. */
export interface RunRequestOptions {
  sandbox?: string;
  network?: string;
  expose?: number[];
  memory?: string;
  cpus?: number;
  pids?: number;
  tmp?: string;
  logRate?: string;
  restart?: Restart;
  backoff?: string;
  health?: Probe;
  healthInterval?: string;
  healthTimeout?: string;
  healthRetries?: number;
  startTimeout?: string;
  trigger?: string[];
  functionTimeout?: string;
  concurrency?: number;
  warm?: number;
  stopSignal?: string;
  stopGrace?: string;
}

/** Adds {@link RunRequestOptions} to a command. */
export function addRunRequestOptions(command: Command): Command {
  addLimits(command);
  addLife(command);
  return command
    .option(
      '--trigger <subject>',
      'each message on it runs the program once; may be repeated; implies --lifecycle function',
      repeated(parseTrigger),
    )
    .option('--function-timeout <duration>', 'longer invocations are ended; default: 30s', parseRequestDuration)
    .option(
      '--concurrency <count>',
      'invocations at once; default: 8',
      wholeNumber('a number of invocations', { least: 1, most: 1024 }),
    )
    .option(
      '--warm <count>',
      'sandboxes kept ready for invocations; default: 2',
      wholeNumber('a number of sandboxes', { least: 0, most: 64 }),
    );
}

/** What it may have, and who reaches it. */
function addLimits(command: Command): void {
  command
    .addOption(
      new Option('--sandbox <kind>', "container (oci) or virtual machine (microvm); default: the node's").choices([
        'oci',
        'microvm',
      ]),
    )
    .addOption(
      new Option('--network <network>', "network of the sandbox; default: the node's").choices([
        'bridge',
        'host',
        'none',
      ]),
    )
    .option('--expose <port>', 'TCP port at which others reach it; may be repeated', repeated(parseOpenPort))
    .option('--memory <size>', "memory limit, for example 256MiB; default: the node's", parseRequestSize)
    .option('--cpus <count>', "processors' worth of time; default: the node's", positive('a number of processors'))
    .option(
      '--pids <count>',
      "limit of processes and threads; default: the node's",
      positive('a number of processes', { whole: true }),
    )
    .option('--tmp <size>', "size of /tmp; default: the node's", parseRequestSize)
    .option(
      '--log-rate <size>',
      "what each output stream may have a second; default: the node's, 1MiB",
      parseRequestSize,
    );
}

/** When it is started again, whether it is well, how it ends. */
function addLife(command: Command): void {
  command
    .option(
      '--restart <policy>',
      'when it ends: always, on-failure or never; on-failure:5 gives up after 5 failures in a row',
      parseRestart,
    )
    .option(
      '--backoff <duration>',
      'wait before the first restart, doubled each time; default: 1s',
      parseRequestDuration,
    )
    .option(
      '--health <check>',
      'nats:SUBJECT, tcp:PORT, http://:PORT/PATH or exec:PROGRAM: it runs when this succeeds',
      parseProbe,
    )
    .option('--health-interval <duration>', 'between two checks; default: 10s', parseRequestDuration)
    .option('--health-timeout <duration>', 'a check that takes longer has failed; default: 2s', parseRequestDuration)
    .option(
      '--health-retries <count>',
      'failures in a row that restart it; default: 3',
      wholeNumber('a number of failures', { least: 1, most: 1_000_000 }),
    )
    .option('--start-timeout <duration>', 'until the first check that succeeds; default: 1m', parseRequestDuration)
    .option('--stop-signal <signal>', 'tells it to end; default: SIGTERM', parseSignal)
    .option('--stop-grace <duration>', 'from that signal to SIGKILL; default: 10s', parseRequestDuration);
}
