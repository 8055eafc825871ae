import { jetstreamManager } from '@nats-io/jetstream';
import { FEED_STREAM } from '@nex-nix/protocol';
import { describeWith, startNatsServer, tempDir } from '@nex-nix/test-kit';
import { expect, it } from 'vitest';
import { ensureFeedStream } from '../src/index.ts';

describeWith(['nats-server'], 'ensureFeedStream()', () => {
  it.each([
    { maxFile: '8Gb', wanted: 2 ** 30 },
    { maxFile: '200Mb', wanted: 2 ** 26 },
  ])('takes what a server with $maxFile has room for', async ({ maxFile, wanted }) => {
    await using dir = await tempDir();
    const config = `jetstream { store_dir: ${JSON.stringify(dir.path)}, max_file: ${maxFile} }`;
    await using server = await startNatsServer({ jetstream: false, config });
    const nc = await server.connect();
    expect(await ensureFeedStream(nc)).toBe(true);
    expect(await ensureFeedStream(nc)).toBe(false);
    const { config: made } = await (await jetstreamManager(nc)).streams.info(FEED_STREAM);
    expect(made.max_bytes).toBe(wanted);
  });

  it('says so when there is no room at all', async () => {
    await using dir = await tempDir();
    const config = `jetstream { store_dir: ${JSON.stringify(dir.path)}, max_file: 10Mb }`;
    await using server = await startNatsServer({ jetstream: false, config });
    await expect(ensureFeedStream(await server.connect())).rejects.toMatchObject({
      code: 'NODE_STREAM_FAILED',
      message: expect.stringContaining('insufficient storage'),
    });
  });
});
