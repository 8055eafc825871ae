import { describe, expect, it } from 'vitest';
import { AgentHeartbeat, RegisterAgentResponse } from '../messages/agent-messages.ts';
import { NodeInfoResponse, NodePingRequest, NodePingResponse } from '../messages/control-messages.ts';
import { natsConnectionData } from '../messages/nats-connection-data.ts';
import { AuctionResponse } from '../messages/auction-messages.ts';
import { ListWorkloadsRequest, StartWorkloadRequest, WorkloadSummaries } from '../messages/workload-messages.ts';

const start = {
  description: '',
  name: 'web',
  namespace: 'default',
  run_request: '{}',
  tags: {},
  workload_lifecycle: 'service' as const,
  workload_type: 'nix',
};

describe('decode()', () => {
  it('reads what a Go node sends, null for empty maps and lists included', () => {
    const text =
      '{"agent_count":1,"node_id":"NB","start_time":"2026-05-01T10:00:00.123456789Z","state":"running","tags":null,"version":"0.4.1","xkey":"XA","later":1}';
    expect(NodePingResponse.decode(text, 's')).toMatchObject({ agent_count: 1, tags: {}, later: 1 });
    const bid = '{"bidder_id":"b","start_request_schema":"{}","supported_lifecycles":null,"xkey":"X"}';
    expect(AuctionResponse.decode(bid, 's').supported_lifecycles).toEqual([]);
    expect(WorkloadSummaries.decode('null', 's')).toEqual([]);
    const info = '{"node_id":"N","tags":{"a":"b"},"uptime":"5s","version":"1","xkey":"X","node_agent_summaries":null}';
    expect(NodeInfoResponse.decode(info, 's').node_agent_summaries).toBeUndefined();
  });

  it('takes a body of null for the zero value, and null for the zero value of a required field', () => {
    expect(NodePingRequest.decode('null', 's')).toEqual({ filter: {} });
    expect(ListWorkloadsRequest.decode('{"filter":null,"namespace":null}', 's')).toEqual({ filter: [], namespace: '' });
  });

  it('names subject and field of what cannot be used', () => {
    const decode = (text: string) => () => StartWorkloadRequest.decode(text, '$NEX.x');
    expect(decode('')).toThrow('Cannot read StartWorkloadRequest from "$NEX.x": it is empty');
    expect(decode('{')).toThrow('it is not JSON');
    expect(decode('[]')).toThrow('it must be object');
    const { name: _, ...nameless } = start;
    expect(decode(JSON.stringify(nameless))).toThrow('field "name" is required');
    expect(decode(JSON.stringify({ ...start, tags: { a: 1 } }))).toThrow('field "tags.a" must be string');
    expect(decode(JSON.stringify({ ...start, workload_lifecycle: null }))).toThrow(
      'field "workload_lifecycle" must be one of',
    );
    expect(decode(JSON.stringify({ ...start, workload_lifecycle: 'daemon' }))).toThrow(
      expect.objectContaining({ code: 'NEX_MESSAGE_INVALID' }),
    );
  });

  it('does not let a key of the body reach a prototype', () => {
    const read = StartWorkloadRequest.decode(`{"__proto__":{"polluted":"yes"},${JSON.stringify(start).slice(1)}`, 's');
    expect(Object.getPrototypeOf(read)).toBe(Object.prototype);
    expect('polluted' in {}).toBe(false);
  });

  it('reads nested messages', () => {
    const creds = Object.fromEntries(Object.keys(natsConnectionData({})).map((key) => [key, null]));
    const text = JSON.stringify({
      connection_data: creds,
      existing_state: null,
      message: '',
      node_id: 'N',
      success: true,
    });
    const read = RegisterAgentResponse.decode(text, 's');
    expect(read.connection_data).toEqual(natsConnectionData({}));
    expect(read.existing_state).toEqual({});
  });
});

describe('encode()', () => {
  it('writes every required key, and an empty filter as Go clients do', () => {
    expect(JSON.parse(StartWorkloadRequest.encode(start))).toEqual(start);
    expect(NodePingRequest.encode({ filter: {} })).toBe('{"filter":null}');
    expect(NodePingRequest.encode({ filter: { a: 'b' } })).toBe('{"filter":{"a":"b"}}');
    expect(ListWorkloadsRequest.encode({ filter: [], namespace: 'system' })).toBe(
      '{"filter":null,"namespace":"system"}',
    );
    expect(Object.keys(natsConnectionData({ conn_name: 'x' }))).toHaveLength(11);
  });

  it('refuses a value that lacks a key', () => {
    expect(() => AgentHeartbeat.encode({ data: '' } as never)).toThrow(
      'Cannot write AgentHeartbeat: field "summary" is required',
    );
  });
});
