import { RequestError } from '@nats-io/nats-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NUID, RFC3339, WireBed } from './bed.ts';

let bed: WireBed;
beforeAll(async () => {
  bed = await WireBed.start();
});
afterAll(() => bed[Symbol.asyncDispose]());

describe('control subjects', () => {
  it('PING answers with every key', async () => {
    expect(await bed.json('$NEX.SVC.system.control.PING', { filter: null })).toEqual({
      agent_count: 1,
      node_id: bed.node.id,
      start_time: expect.stringMatching(RFC3339) as unknown,
      state: 'running',
      tags: expect.objectContaining({
        region: 'lab',
        'nex.node': 'n1',
        'nex.nexus': 'nexus',
        'nex.lameduck': 'false',
      }) as unknown,
      version: '0.1.0',
      xkey: expect.stringMatching(/^X[A-Z2-7]{55}$/) as unknown,
    });
    expect(bed.node.id).toMatch(/^N[A-Z2-7]{55}$/);
  });

  it('PING is silent unless all tags fit, and refuses what is no request', async () => {
    await bed.json('$NEX.SVC.system.control.PING', { filter: { region: 'lab', 'nex.node': 'n1' } });
    await bed.expectSilence('$NEX.SVC.system.control.PING', '{"filter":{"region":"lab","zone":"a"}}');
    for (const body of ['', '{}']) {
      const error = expect.stringContaining('NodePingRequest') as unknown;
      await bed.expectError('$NEX.SVC.system.control.PING', body, {
        code: '400',
        header: 'failed to unmarshal ping request',
        error,
      });
    }
  });

  it('PING on another namespace has no responders, PING.<node> and PTAGS answer', async () => {
    await expect(bed.ask('$NEX.SVC.default.control.PING', '{"filter":null}')).rejects.toThrow(RequestError);
    expect(await bed.json(`$NEX.SVC.system.control.PING.${bed.node.id}`, {})).toMatchObject({ node_id: bed.node.id });
    expect(await bed.json('$NEX.SVC.system.control.PTAGS', {})).toMatchObject({ region: 'lab', 'nex.os': 'linux' });
  });

  it('INFO shows the nexlets', async () => {
    const info = await bed.json(`$NEX.SVC.system.control.INFO.${bed.node.id}`, {});
    expect(info).toEqual({
      node_id: bed.node.id,
      tags: expect.objectContaining({ region: 'lab' }) as unknown,
      uptime: expect.stringMatching(/^[\d.]+(ms|s)$/) as unknown,
      version: '0.1.0',
      xkey: bed.node.xkey,
      node_agent_summaries: [
        {
          agent_health: 'healthy',
          agent_health_stoplight: '🟢',
          agent_id: expect.stringMatching(NUID) as unknown,
          agent_last_heartbeat_time: expect.stringMatching(RFC3339) as unknown,
          agent_summary: {
            name: 'memory',
            start_time: expect.stringMatching(RFC3339) as unknown,
            state: 'running',
            supported_lifecycles: 'service,job',
            type: 'memory',
            version: '1.2.3',
            workload_count: 0,
          },
        },
      ],
    });
  });

  it('AGENTID takes and gives plain text', async () => {
    const id = (await bed.ask(`$NEX.SVC.system.control.AGENTID.${bed.node.id}`, 'memory')).string();
    expect(id).toMatch(NUID);
    await bed.expectSilence(`$NEX.SVC.system.control.AGENTID.${bed.node.id}`, 'nobody');
    const error = 'agent name is required';
    await bed.expectError(`$NEX.SVC.system.control.AGENTID.${bed.node.id}`, '', { code: '400', header: error, error });
  });

  it('LAMEDUCK refuses a bad delay and is silent when a tag does not fit', async () => {
    const subject = `$NEX.SVC.system.control.LAMEDUCK.${bed.node.id}`;
    const unreadable = {
      code: '400',
      header: 'failed to unmarshal lameduck request',
      error: expect.any(String) as unknown,
    };
    await bed.expectError(subject, '{}', unreadable);
    const header = 'failed to parse lameduck delay';
    await bed.expectError(subject, '{"delay":"5"}', {
      code: '400',
      header,
      error: expect.stringContaining('"5"') as unknown,
    });
    await bed.expectSilence(subject, '{"delay":"1m0s","tag":{"region":"moon"}}');
  });

  it('is a micro service', async () => {
    const info = (await bed.ask('$SRV.INFO.nexnode', '')).json<{
      version: string;
      endpoints: { name: string; queue_group: string }[];
    }>();
    expect(info.version).toBe('0.1.0');
    expect(new Set(info.endpoints.map((endpoint) => endpoint.queue_group))).toEqual(new Set([bed.node.id]));
    expect(info.endpoints.map((endpoint) => endpoint.name).sort()).toEqual([
      'AuctionDeployWorkload',
      'AuctionRequest',
      'CloneWorkload',
      'GetAgentIdByName',
      'GetNodeInfo',
      'NamespacePingRequest',
      'PingNexus',
      'PingNode',
      'PingPlacementTags',
      'RegisterAgent',
      'SetLameduck',
      'StopWorkload',
    ]);
    expect((await bed.ask('$SRV.INFO.memory', '')).json()).toMatchObject({ version: '1.2.3' });
  });
});
