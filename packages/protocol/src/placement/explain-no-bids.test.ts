import { describe, expect, it } from 'vitest';
import type { AgentHealth, NodeInfo, NodePing, NodeState } from '../messages/control-messages.ts';
import { ProtocolError } from '../protocol-error.ts';
import { explainNoBids } from './explain-no-bids.ts';

const node = (name: string, tags: Record<string, string> = {}, state: NodeState = 'running'): NodePing => ({
  agent_count: 1,
  node_id: `id-of-${name}`,
  start_time: '',
  state,
  tags: { 'nex.node': name, ...tags },
  version: '',
  xkey: '',
});

const info = (name: string, type: string, health: AgentHealth): NodeInfo => ({
  node_id: `id-of-${name}`,
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

const noBid = (name: string, reason: string) => ({ node_id: `id-of-${name}`, node_name: name, reason });

describe('explainNoBids()', () => {
  it.each([
    [[node('a', {}, 'lameduck')], [], {}, '1 node seen: a is lameduck'],
    [[node('a'), node('b', { x: '2' })], [], { x: '1' }, '2 nodes seen (a, b), each lacks tag x=1'],
    [
      [node('a', { x: '1' }), node('b', { y: '2' })],
      [],
      { x: '1', y: '2' },
      '2 nodes seen: a lacks tag y=2; b lacks tag x=1',
    ],
    [[node('a')], [info('a', 'native', 'healthy')], {}, '1 node seen: a has no nexlet of type "nix"'],
    [[node('a')], [info('a', 'nix', 'offline')], {}, '1 node seen: a has a nexlet of type "nix" that is offline'],
    [
      [node('a')],
      [info('a', 'nix', 'healthy')],
      {},
      '1 node seen: a did not bid although its nexlet of type "nix" is healthy',
    ],
    [[node('a')], [], {}, '1 node seen: a did not bid'],
  ])('tells of nodes that say nothing, %#', (nodes, inspected, tags, explanation) => {
    const seen = { noBids: [], errors: [], survey: { nodes, inspected } };
    expect(explainNoBids(seen, { type: 'nix', tags })).toBe(explanation);
  });

  it('takes the word of nodes that say why, beside those that do not', () => {
    const survey = { nodes: [node('a'), node('b')], inspected: [] };
    const seen = { noBids: [noBid('b', 'is full: 10 of 10 workloads')], errors: [], survey };
    expect(explainNoBids(seen, { type: 'nix', tags: {} })).toBe(
      '2 nodes seen: a did not bid; b is full: 10 of 10 workloads',
    );
    expect(explainNoBids({ ...seen, survey: undefined }, { type: 'nix', tags: {} })).toBe(
      '1 node seen: b is full: 10 of 10 workloads',
    );
  });

  it('names eight nodes and counts the others', () => {
    const nodes = Array.from({ length: 11 }, (_, n) => node(`n${n + 10}`, n === 0 ? { x: '1' } : {}));
    const wanted = { type: 'nix', tags: { x: '1' } };
    const text = explainNoBids({ noBids: [], errors: [], survey: { nodes, inspected: [] } }, wanted);
    expect(text).toMatch(/^11 nodes seen: n10 did not bid; n11 lacks tag x=1; .*; n17 lacks tag x=1; and 3 more$/);
    const same = explainNoBids({ noBids: [], errors: [], survey: { nodes: nodes.slice(1), inspected: [] } }, wanted);
    expect(same).toBe('10 nodes seen (n11, n12, n13, n14, n15, n16, n17, n18 and 2 more), each lacks tag x=1');
  });

  it('keeps what others say short and on one line', () => {
    const text = explainNoBids(
      { noBids: [noBid('a', `is\n${'x'.repeat(500)}`)], errors: [], survey: undefined },
      { type: 'nix', tags: {} },
    );
    expect(text).not.toContain('\n');
    expect(text.length).toBeLessThan(250);
  });

  it('admits that it does not know, and passes on what went wrong', () => {
    const wanted = { type: 'nix', tags: {} };
    expect(explainNoBids({ noBids: [], errors: [], survey: undefined }, wanted)).toContain('cannot be asked');
    const errors = [new ProtocolError('NEX_PEER_FAILED', 'failed to auction')];
    expect(explainNoBids({ noBids: [], errors, survey: { nodes: [node('a')], inspected: [] } }, wanted)).toBe(
      '1 node seen: a did not bid; a node answered with an error: failed to auction',
    );
  });
});
