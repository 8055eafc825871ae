import { Command } from 'commander';
import { cacheGc } from './cache-gc.ts';
import { cacheInfo } from './cache-info.ts';
import { cacheKeygen } from './cache-keygen.ts';
import { cacheLs } from './cache-ls.ts';
import { cachePin } from './cache-pin.ts';
import { cachePins } from './cache-pins.ts';
import { cachePull } from './cache-pull.ts';
import { cachePush } from './cache-push.ts';
import { cacheRm } from './cache-rm.ts';
import { cacheServe } from './cache-serve.ts';
import { cacheUnpin } from './cache-unpin.ts';
import { cacheVerify } from './cache-verify.ts';

export const cache = (): Command =>
  new Command('cache')
    .description('The binary cache in NATS: push, pull, pin, look, clean up')
    .addCommand(cachePush())
    .addCommand(cachePull())
    .addCommand(cacheInfo())
    .addCommand(cacheLs())
    .addCommand(cachePin())
    .addCommand(cacheUnpin())
    .addCommand(cachePins())
    .addCommand(cacheGc())
    .addCommand(cacheRm())
    .addCommand(cacheVerify())
    .addCommand(cacheKeygen())
    .addCommand(cacheServe());
