import { type NexletDefinition, runLocalNexlet, runRemoteNexlet, type StartContext } from '@nex-nix/nexlet';

const timers = new Map<string, StartContext & { timer: NodeJS.Timeout; start_time: string }>();

const definition: NexletDefinition = {
  name: 'timer',
  type: 'timer',
  version: '1.0.0',
  lifecycles: ['service'],
  startRequestSchema: {
    type: 'object',
    required: ['text'],
    properties: { text: { type: 'string' }, every: { type: 'integer', minimum: 10 } },
  },
  async start(context) {
    const { workloadId: id, request, runRequest, feeds } = context;
    const { text, every = 1_000 } = runRequest as { text: string; every?: number };
    const timer = setInterval(() => feeds.log(request.namespace, id, 'stdout', text), every);
    timers.set(id, { ...context, timer, start_time: new Date().toISOString() });
    return { id, name: request.name };
  },
  async stop(id) {
    clearInterval(timers.get(id)?.timer);
    return timers.delete(id);
  },
  get: async (id) => timers.get(id)?.request,
  list: async () =>
    [...timers].map(([id, { start_time, request }]) => {
      const { name, namespace, tags, workload_lifecycle, workload_type } = request;
      const about = { name, namespace, tags, workload_lifecycle, workload_type };
      return { id, ...about, start_time, runtime: '--', workload_state: 'running' as const };
    }),
  close: async () => timers.forEach(({ timer }) => clearInterval(timer)),
};

const { NEX_AGENT_NODE_ID: node, NATS_URL: servers = 'nats://127.0.0.1:4222' } = process.env;
const remote = { connection: { nats_servers: servers.split(',') } };
const nexlet = node === undefined ? await runRemoteNexlet(definition, remote) : await runLocalNexlet(definition);
for (const end of ['SIGINT', 'SIGTERM']) process.once(end, () => void nexlet[Symbol.asyncDispose]());
process.exitCode = (await nexlet.closed) === undefined ? 0 : 1;
