import { devPaths } from '../dev-paths.ts';
import { ensurePrivateFile, readIfPresent } from '../write-file.ts';

/** Where the services of a data folder listen, or have listened the last time, so that contexts stay valid. */
export interface DevPorts {
  nats?: number | undefined;
  monitor?: number | undefined;
  cache?: number | undefined;
}

export async function readPorts(dataDir: string): Promise<DevPorts> {
  const text = await readIfPresent(devPaths(dataDir).ports);
  try {
    const { nats, monitor, cache } = (JSON.parse(text ?? '{}') ?? {}) as Record<string, unknown>;
    return { nats: portOf(nats), monitor: portOf(monitor), cache: portOf(cache) };
  } catch (error) {
    // It only says what is preferred.
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}

/** Remembers those that are given; the others stay what they were. */
export async function rememberPorts(dataDir: string, ports: DevPorts): Promise<void> {
  const before = await readPorts(dataDir);
  await ensurePrivateFile(devPaths(dataDir).ports, `${JSON.stringify({ ...before, ...ports })}\n`);
}

function portOf(value: unknown): number | undefined {
  return Number.isInteger(value) && Number(value) > 0 && Number(value) < 65_536 ? Number(value) : undefined;
}
