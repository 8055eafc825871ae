import { Command } from 'commander';
import { guestBuild } from './guest-build.ts';
import { guestShow } from './guest-show.ts';

export const guest = (): Command =>
  new Command('guest')
    .description('Images of the guests that workloads run in as virtual machines: build one, look at it')
    .addCommand(guestBuild())
    .addCommand(guestShow());
