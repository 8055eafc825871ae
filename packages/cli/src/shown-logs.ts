import type { Feeds, Logger, NexletDefinition } from '@nex-nix/nexlet';

/** A nexlet whose workloads' output goes into a log too, line by line. */
export function showingLogs(definition: NexletDefinition, logger: Logger): NexletDefinition {
  const shown = (feeds: Feeds): Feeds => ({
    ...feeds,
    log(namespace, workloadId, stream, line, options) {
      const text = typeof line === 'string' ? line : new TextDecoder().decode(line);
      logger.info({ component: 'workload', namespace, workloadId, stream }, text);
      return feeds.log(namespace, workloadId, stream, line, options);
    },
  });
  return {
    ...definition,
    ready: async (feeds, xkey) => definition.ready?.(shown(feeds), xkey),
    start: (context) => definition.start({ ...context, feeds: shown(context.feeds) }),
  };
}
