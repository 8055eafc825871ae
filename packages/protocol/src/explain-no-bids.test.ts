import { describe, expect, it } from 'vitest';
import type { AgentHealth, NodeInfo, NodePing, NodeState } from './control-messages.ts';
import { explainNoBids } from './explain-no-bids.ts';

const node = (tags: Record<string, string>, state: NodeState = 'running'): NodePing => ({
  agent_count: 1,
  node_id: 'N',
  start_time: '',
  state,
  tags,
  version: '',
  xkey: '',
});

const info = (type: string, health: AgentHealth): NodeInfo => ({
  node_id: 'N',
  tags: {},
  uptime: '',
  version: '',
  xkey: '',
  node_agent_summaries: [
    {
      agent_health: health,
      agent_health_stoplight: '',
      agent_id: '',
      agent_last_heartbeat_time: '',
      agent_summary: {
        name: '',
        start_time: '',
        state: '',
        supported_lifecycles: '',
        type,
        version: '',
        workload_count: 0,
      },
    },
  ],
});

describe('explainNoBids()', () => {
  it.each([
    [[node({}, 'lameduck')], [], {}, '1 node seen, none is running (lameduck)'],
    [[node({}), node({ a: '2' })], [], { a: '1' }, '2 nodes seen, none has tag a=1'],
    [[node({}), node({})], [], { a: '1', b: '2' }, '2 nodes seen, none has the tags a=1, b=2'],
    [[node({ a: '1' }), node({ b: '2' })], [], { a: '1', b: '2' }, '2 nodes seen, none has all of the tags a=1, b=2'],
    [[node({ a: '1' })], [info('native', 'healthy')], { a: '1' }, '1 node seen, none has a nexlet of type "nix"'],
    [[node({})], [info('nix', 'offline')], {}, '1 node seen, but their nexlets of type "nix" are offline'],
    [[node({})], [info('nix', 'healthy')], {}, '1 node seen, but their nexlets of type "nix" are full'],
    [[node({})], [], {}, '1 node seen, none bid'],
  ])('%#', (nodes, inspected, tags, explanation) => {
    expect(explainNoBids({ nodes, inspected }, { type: 'nix', tags })).toBe(explanation);
  });

  it('admits that it does not know', () => {
    expect(explainNoBids(undefined, { type: 'nix', tags: {} })).toContain('cannot be asked');
  });
});
