import { Command } from 'commander';
import { devDown } from './dev-down.ts';
import { devEnv } from './dev-env.ts';
import { devInit } from './dev-init.ts';
import { devLogs } from './dev-logs.ts';
import { devRestart } from './dev-restart.ts';
import { devStatus } from './dev-status.ts';
import { devUp } from './dev-up.ts';

export const dev = (): Command =>
  new Command('dev')
    .description('NATS services for development: server with JetStream, accounts, contexts, binary cache, a node')
    .addCommand(devUp(), { isDefault: true })
    .addCommand(devDown())
    .addCommand(devStatus())
    .addCommand(devLogs())
    .addCommand(devRestart())
    .addCommand(devEnv())
    .addCommand(devInit())
    .addHelpText(
      'after',
      '\nnex dev alone is nex dev up; its options: nex dev up --help.' +
        '\n\nExamples:\n  nex dev\n  nex dev up -d\n  eval "$(nex dev env)"\n  nex dev logs -f nats\n  nex dev down',
    );
