import { EncryptedEnvironment } from '@nex-nix/protocol';
import { type Static, Type } from 'typebox';
import { DURATION, SIZE } from './units.ts';

const closed = { additionalProperties: false };
const Size = (description: string) => Type.String({ pattern: SIZE, description });
const Duration = (description: string) => Type.String({ pattern: DURATION, description });
const Port = (description: string) => Type.Integer({ minimum: 1, maximum: 65_535, description });

const Restart = Type.Object(
  {
    policy: Type.Optional(
      Type.Union([Type.Literal('always'), Type.Literal('on-failure'), Type.Literal('never')], {
        description: 'When a program that ended is started again; default: always, for jobs never',
      }),
    ),
    max_retries: Type.Optional(
      Type.Integer({
        minimum: 0,
        description: 'Failures in a row before it is given up; default: no bound, for jobs 3',
      }),
    ),
    backoff: Type.Optional(Duration('Wait before the first restart, doubled each time up to 5m; default 1s')),
  },
  closed,
);

const Health = Type.Object(
  {
    nats: Type.Optional(Type.String({ minLength: 1, description: 'Subject that answers a request' })),
    tcp: Type.Optional(Port('Port that accepts connections')),
    http: Type.Optional(
      Type.Object(
        {
          port: Port('Port of the server'),
          path: Type.Optional(Type.String({ pattern: '^/[!-~]*$', description: 'Answered by a 2xx; default /' })),
        },
        closed,
      ),
    ),
    exec: Type.Optional(
      Type.Array(Type.String(), {
        minItems: 1,
        description: 'Program relative to the store path, and arguments; healthy when it ends with 0',
      }),
    ),
    interval: Type.Optional(Duration('Time between two checks; default 10s')),
    timeout: Type.Optional(Duration('Longer is a failure; default 2s')),
    retries: Type.Optional(Type.Integer({ minimum: 1, description: 'Failures in a row that restart it; default 3' })),
    start_timeout: Type.Optional(Duration('Time until it is healthy for the first time; default 1m')),
  },
  closed,
);

const Function = Type.Object(
  {
    concurrency: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1024, description: 'Invocations at once; more wait; default 8' }),
    ),
    warm: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 64, description: 'Sandboxes kept ready for invocations; default 2' }),
    ),
    timeout: Type.Optional(Duration('Longer invocations are ended and answered with an error; default 30s')),
  },
  closed,
);

/**
 * The start request of workloads of type `nix`, published as JSON Schema at registration.
 * Only keywords that draft-07 has: Go's validators read it too.
 */
export const NixStartRequest = Type.Object(
  {
    store_path: Type.String({
      description: 'What to run: /nix/store/<hash>-<name>, or a file below one',
      pattern: '^/nix/store/[0-9a-z]{32}-[A-Za-z0-9+._?=-]+(/.*)?$',
    }),
    program: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'Path of the program, relative to the store path; default: the only one in bin/',
      }),
    ),
    argv: Type.Optional(Type.Array(Type.String(), { description: 'Arguments of the program; default: none' })),
    environment: Type.Optional(
      Type.Record(Type.String(), Type.String(), {
        description: 'Variables in clear, on the wire and in records; default: none',
      }),
    ),
    encrypted_environment: Type.Optional(
      Type.With(EncryptedEnvironment, {
        description: 'Variables sealed to the key in the bid; stronger than those in clear',
      }),
    ),
    sandbox: Type.Optional(
      Type.Union([Type.Literal('oci'), Type.Literal('microvm')], {
        description: "Container or virtual machine; default: the node's",
      }),
    ),
    network: Type.Optional(
      Type.Union([Type.Literal('bridge'), Type.Literal('host'), Type.Literal('none')], {
        description: "An address of its own, the machine's network, or none; default: the node's",
      }),
    ),
    expose_ports: Type.Optional(
      Type.Array(Port('TCP port that it listens on'), {
        maxItems: 64,
        uniqueItems: true,
        description: 'Ports at which others reach it: ports of the machine, of the same numbers',
      }),
    ),
    resources: Type.Optional(
      Type.Object(
        {
          memory: Type.Optional(Size("For example 256MiB; default: the node's, 256MiB")),
          cpus: Type.Optional(
            Type.Number({ minimum: 0.01, description: "Processor time per wall time; default: the node's, no limit" }),
          ),
          pids: Type.Optional(
            Type.Integer({ minimum: 1, description: "Processes and threads; default: the node's, 256" }),
          ),
          tmp: Type.Optional(Size("Size of /tmp, which counts as memory; default: the node's, 64MiB")),
          log_rate: Type.Optional(
            Size('What each output stream may have a second; a program that prints faster waits; default 1MiB'),
          ),
        },
        { ...closed, description: 'What it may use' },
      ),
    ),
    restart: Type.Optional(Type.With(Restart, { description: 'When a program that ended is started again' })),
    stop: Type.Optional(
      Type.Object(
        {
          signal: Type.Optional(
            Type.String({ pattern: '^SIG[A-Z0-9]+$', description: 'Tells it to end; default SIGTERM' }),
          ),
          grace: Type.Optional(Duration('Time until SIGKILL; default 10s')),
        },
        { ...closed, description: 'How it is told to end' },
      ),
    ),
    health: Type.Optional(
      Type.With(Health, {
        description: 'One check of nats, tcp, http and exec, and its times; services only; default: none',
      }),
    ),
    triggers: Type.Optional(
      Type.Array(Type.String({ minLength: 1 }), {
        maxItems: 64,
        description: 'Subjects of which each message runs it once; lifecycle function only',
      }),
    ),
    function: Type.Optional(Type.With(Function, { description: 'How a function is invoked; lifecycle function only' })),
  },
  closed,
);
export type NixStartRequest = Static<typeof NixStartRequest>;
