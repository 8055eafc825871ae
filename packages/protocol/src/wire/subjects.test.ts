import { describe, expect, it } from 'vitest';
import {
  agentSubjects,
  ANY,
  controlSubjects,
  feedSubjects,
  lastToken,
  subjectScope,
  subjectToken,
} from './subjects.ts';

describe('subjects', () => {
  it('are those of Nex 0.4', () => {
    expect(controlSubjects.ping('system')).toBe('$NEX.SVC.system.control.PING');
    expect(controlSubjects.info('system', 'NA')).toBe('$NEX.SVC.system.control.INFO.NA');
    expect(controlSubjects.deploy('default', 'b1')).toBe('$NEX.SVC.default.control.ADEPLOY.b1');
    expect(controlSubjects.undeploy(ANY, ANY)).toBe('$NEX.SVC.*.control.UNDEPLOY.*');
    expect(controlSubjects.listWorkloads('a')).toBe('$NEX.SVC.a.control.WPING');
    expect(controlSubjects.heartbeat('NA')).toBe('$NEX.SVC.system.control.HEARTBEAT.NA');
    expect(agentSubjects.register('NA', ANY)).toBe('$NEX.SVC.NA.agent.REGISTER.*');
    expect(agentSubjects.startWorkload('NA', 'a1', 'w1')).toBe('$NEX.SVC.NA.agent.a1.STARTWORKLOAD.w1');
    expect(agentSubjects.stopWorkload('NA', 'w1')).toBe('$NEX.SVC.NA.agent.STOPWORKLOAD.w1');
    expect(agentSubjects.pingWorkload('nexus', 'w1')).toBe('$NEX.SVC.nexus.agent.PINGWORKLOAD.w1');
    expect(feedSubjects.logs('default', 'w1', 'stderr')).toBe('$NEX.FEED.default.logs.w1.stderr');
    expect(feedSubjects.events('NA', 'NODESTARTED')).toBe('$NEX.FEED.NA.events.NODESTARTED');
  });

  it.each(['', 'a.b', 'a b', '*', '>', 'a>', 'tab\there', 'line\nbreak', '\u0000'])(
    'subjectToken() refuses %j',
    (value) => {
      expect(() => subjectToken(value, 'namespace')).toThrow(
        expect.objectContaining({ code: 'NEX_SUBJECT_INVALID', kind: 'usage' }),
      );
      expect(() => controlSubjects.auction(value)).toThrow(`Cannot use namespace "${value}"`);
    },
  );

  it('gives back scope and last token', () => {
    expect(subjectScope('$NEX.SVC.default.control.ADEPLOY.b1')).toBe('default');
    expect(lastToken('$NEX.SVC.default.control.ADEPLOY.b1')).toBe('b1');
  });
});
