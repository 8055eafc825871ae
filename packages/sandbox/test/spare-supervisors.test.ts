import { setTimeout as delay } from 'node:timers/promises';
import { describeWith, waitFor } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { SpareSupervisors } from '../src/supervisor/spare-supervisors.ts';

/** Longer than it takes until spares are made. */
const AFTER_REFILL = 150;

describeWith(['unshare'], 'spare supervisors', () => {
  it('are made after a start, and do not hold up one that is under way', async () => {
    let made = 0;
    await using spares = new SpareSupervisors(() => {
      made++;
      return { parents: [], entry: '', hide: undefined, mountRoot: false };
    });
    {
      using _outer = spares.starting();
      {
        using _inner = spares.starting();
        const first = await spares.take();
        await first.dismiss();
      }
      await delay(AFTER_REFILL);
      expect(made, 'another start is under way').toBe(1);
    }
    await waitFor('two spares', async () => made === 3);
    using _ = spares.starting();
    const spare = await spares.take();
    expect(made, 'it was there').toBe(3);
    await spare.dismiss();
  });
});
