import { Command } from 'commander';
import { cachedTarget } from '../cached-target.ts';
import { action } from '../context.ts';
import { readIssuer, readPublisher } from '../developer-keys.ts';
import { addNixOptions, describeOutcome, type NixOptions, nixWorkload, sayAccepted } from '../nix-workload.ts';
import { openCache } from '../open-cache.ts';
import { parsePairs } from '../parse.ts';
import { startAndWait } from '../start-workload.ts';

interface Options extends NixOptions {
  xkey?: string;
  issuer?: string;
  description: string;
}

export const run = (): Command =>
  addNixOptions(
    new Command('run')
      .description('Place and run what is in the cache already')
      .argument('<path>', 'store path that is in the cache, or cache:NAME for what is pinned there')
      .argument('[variables...]', 'environment of the workload: NAME=VALUE; sealed to the nexlet that gets it'),
  )
    .option('--description <text>', 'what it is', '')
    .option('--xkey <file>', 'curve key to seal the environment with (SX…); default: one made for this workload')
    .option('--issuer <file>', 'account key that names who publishes it (SA…); nobody verifies it')
    .addHelpText(
      'after',
      '\nExamples:\n  nex run cache:echo GREETING=hi\n  nex run /nix/store/…-echo-1.0.0 --xkey ~/.nex/publisher.xk --issuer ~/.nex/issuer.nk',
    )
    .action(
      action<Options>(async (context, options, path = '', ...variables) => {
        const environment = parsePairs(variables, 'variable');
        const sender = options.xkey === undefined ? {} : { sender: await readPublisher(options.xkey) };
        const issuer = options.issuer === undefined ? undefined : await readIssuer(options.issuer);
        const { nc, client } = await context.client();
        const target = await cachedTarget(context, await openCache(context, nc), path);
        const workload = nixWorkload(target, options, environment);
        const { wait, follow = false, description } = options;
        const started = await startAndWait(
          context,
          { nc, client, wait, follow, onAccepted: sayAccepted(context, workload.name) },
          {
            ...workload,
            ...sender,
            description,
            ...(issuer === undefined ? {} : { metadata: { issuer: issuer.getPublicKey() } }),
          },
        );
        return {
          value: { ...started, storePath: target.storePath },
          text: `Workload '${workload.name}' ${describeOutcome(options)}`,
        };
      }),
    );
