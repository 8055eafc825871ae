/**
 * To be imported before a program: kills its process at the NEX_KILL_AT-th call that changes a folder or the database, before the call or,
 * for odd numbers, after it.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { DatabaseSync } from 'node:sqlite';

const killAt = Number(process.env['NEX_KILL_AT'] ?? 0);
let count = 0;

// oxlint-disable-next-line typescript/no-explicit-any -- Functions of any kind are passed on as they are.
function counted<T extends (...args: any[]) => any>(original: T): T {
  return function (this: unknown, ...args: unknown[]) {
    count++;
    if (count === killAt && killAt % 2 === 0) process.kill(process.pid, 'SIGKILL');
    const result: unknown = original.apply(this, args);
    if (count === killAt) process.kill(process.pid, 'SIGKILL');
    return result;
  } as T;
}

for (const name of ['renameSync', 'mkdirSync', 'chmodSync', 'utimesSync', 'rmSync'] as const) {
  Object.assign(fs, { [name]: counted(fs[name]) });
}
for (const name of ['rm', 'chmod', 'mkdir'] as const) {
  Object.assign(fs.promises, { [name]: counted(fs.promises[name]) });
}
DatabaseSync.prototype.exec = counted(DatabaseSync.prototype.exec);
syncBuiltinESMExports();
