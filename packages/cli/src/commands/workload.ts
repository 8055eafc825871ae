import { Command } from 'commander';
import { workloadClone } from './workload-clone.ts';
import { workloadInfo } from './workload-info.ts';
import { workloadList } from './workload-list.ts';
import { workloadRemove } from './workload-remove.ts';
import { workloadRollback } from './workload-rollback.ts';
import { workloadScale } from './workload-scale.ts';
import { workloadStart } from './workload-start.ts';
import { workloadStatus } from './workload-status.ts';
import { workloadStop } from './workload-stop.ts';
import { workloadUpdate } from './workload-update.ts';

export const workload = (): Command =>
  new Command('workload')
    .alias('workloads')
    .description('Workloads: start, stop, list, look at them')
    .addCommand(workloadStart())
    .addCommand(workloadStop())
    .addCommand(workloadList())
    .addCommand(workloadInfo())
    .addCommand(workloadClone())
    .addCommand(workloadStatus())
    .addCommand(workloadUpdate())
    .addCommand(workloadScale())
    .addCommand(workloadRollback())
    .addCommand(workloadRemove());
