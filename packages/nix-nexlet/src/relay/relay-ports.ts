import { readFile, rename, writeFile } from 'node:fs/promises';

/** Which port of the gateway address stands for which server, kept on disk: workloads outlive the node and come back to it. */
export class RelayPorts {
  readonly #file: string;
  readonly #ports: Map<string, number>;

  private constructor(file: string, ports: Map<string, number>) {
    this.#file = file;
    this.#ports = ports;
  }

  static async open(file: string): Promise<RelayPorts> {
    return new RelayPorts(file, new Map(Object.entries(await readPorts(file))));
  }

  /** Of a server, as `host:port`. */
  get(server: string): number | undefined {
    return this.#ports.get(server);
  }

  servers(): string[] {
    return [...this.#ports.keys()];
  }

  async set(server: string, port: number): Promise<void> {
    if (this.#ports.get(server) === port) return;
    this.#ports.set(server, port);
    const draft = `${this.#file}.new`;
    await writeFile(draft, `${JSON.stringify({ version: 1, ports: Object.fromEntries(this.#ports) })}\n`, {
      mode: 0o600,
    });
    await rename(draft, this.#file);
  }
}

async function readPorts(file: string): Promise<Record<string, number>> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
  const { ports } = JSON.parse(text) as { ports: Record<string, number> };
  return ports;
}
