import { Command } from 'commander';
import { nodeInfo } from './node-info.ts';
import { nodeLameduck } from './node-lameduck.ts';
import { nodeList } from './node-list.ts';
import { nodePreflight } from './node-preflight.ts';
import { nodeUp } from './node-up.ts';

export const node = (): Command =>
  new Command('node')
    .description('Nodes: run one, look at them')
    .addCommand(nodeUp())
    .addCommand(nodePreflight())
    .addCommand(nodeList())
    .addCommand(nodeInfo())
    .addCommand(nodeLameduck());
