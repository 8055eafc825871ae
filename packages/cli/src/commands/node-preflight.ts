import { createInterface } from 'node:readline/promises';
import { Command } from 'commander';
import { addBridgeOptions } from '../bridge-options.ts';
import { action, type Context } from '../context.ts';
import { addMachineOptions } from '../machine-options.ts';
import { parsePort } from '../parse.ts';
import type { Findings, Group, Item } from '../preflight/group.ts';
import type { PreflightOptions } from '../preflight/groups.ts';
import { stateDirOption } from '../state-folder.ts';

interface Options extends PreflightOptions {
  yes?: boolean;
  force?: boolean;
}

/** Exit code when something essential is missing. */
const UNFIT = 1;

export const nodePreflight = (): Command => {
  const command = new Command('preflight')
    .description('See whether this machine has what a node needs, and install what is missing')
    .option('--yes', 'install without asking')
    .option('--force', 'the same, as in Nex 0.1')
    .addOption(stateDirOption('state folder that the node will have'))
    .option('--cgroup-parent <path>', 'cgroup that workloads will be put below')
    .option('--metrics-port <port>', 'port that the node will serve metrics on', parsePort)
    .option('--metrics-address <address>', 'where it will listen for that', '127.0.0.1');
  addMachineOptions(command);
  addBridgeOptions(command);
  return command
    .addHelpText(
      'after',
      '\nGive it the options that nex node up will have. It starts a sandbox of each kind that is asked for: nothing else' +
        '\ntells whether that works. What is marked ⛔ is missing: it keeps a node from starting, unless it is optional, which only' +
        '\nnarrows what workloads may ask for. Exit code 1 when something that is not optional is missing. With --check it only' +
        '\nlooks: nothing is installed, nothing is asked.' +
        '\n\nExamples:\n  nex node preflight\n  nex node preflight --check --json\n  sudo nex node preflight --yes --guest-image ./guest',
    )
    .action(
      action<Options>(
        async (context, options) => {
          const { preflightGroups } = await import('../preflight/groups.ts');
          const { allItems } = await import('../preflight/group.ts');
          const results: { title: string; findings: Findings }[] = [];
          for (const group of await preflightGroups(context, options)) {
            context.signal.throwIfAborted();
            results.push({ title: group.title, findings: await examine(context, group, options) });
          }
          const unfit = results.flatMap(({ findings }) => allItems(findings)).filter(isFatal);
          return {
            value: { ready: unfit.length === 0, groups: results.map(({ title, findings }) => jsonOf(title, findings)) },
            text: conclusion(unfit),
            exitCode: unfit.length === 0 ? 0 : UNFIT,
          };
        },
        { takesCheck: true },
      ),
    );
};

/** Looks, shows, and when something can be done about what is missing, does it and looks again. */
async function examine(context: Context, group: Group, options: Options): Promise<Findings> {
  const { printGroup } = await import('../preflight/print.ts');
  const { allItems } = await import('../preflight/group.ts');
  const findings = await group.look(context.signal);
  context.say(printGroup(group.title, findings));
  const missing = allItems(findings).filter(({ met, remedy }) => !met && remedy !== undefined);
  if (missing.length === 0 || !(await isWanted(context, group.title, options))) return findings;
  const remedies = new Map(missing.flatMap(({ remedy }) => (remedy === undefined ? [] : [[remedy.what, remedy]])));
  for (const remedy of remedies.values()) {
    context.say(`${remedy.what} …`);
    await remedy.run(context.signal);
  }
  const after = await group.look(context.signal);
  context.say(printGroup(group.title, after));
  return after;
}

async function isWanted(context: Context, title: string, { yes, force }: Options): Promise<boolean> {
  if (context.globals.check === true) return false;
  if (yes === true || force === true) return true;
  if (!process.stdin.isTTY || context.globals.json === true) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const question = `⛔ You are missing required dependencies for [${title}], do you want to install? [y/N] `;
    const answer = await terminal.question(question, { signal: context.signal });
    return /^y(?:es)?$/i.test(answer.trim());
  } finally {
    terminal.close();
  }
}

function isFatal({ met, essential }: Item): boolean {
  return !met && essential;
}

function conclusion(unfit: readonly Item[]): string {
  if (unfit.length === 0) return '✅ This machine is ready: nex node up';
  return `⛔ Missing for a node: ${unfit.map(({ name }) => name).join(', ')}`;
}

function jsonOf(title: string, { folders, items }: Findings) {
  const plain = ({ name, met, essential, detail, hint, remedy }: Item) => ({
    name,
    met,
    essential,
    detail,
    ...(hint === undefined ? {} : { hint }),
    ...(remedy === undefined ? {} : { remedy: remedy.what }),
  });
  return {
    title,
    searched: folders.map(({ path }) => path),
    items: [...folders.flatMap((folder) => folder.items), ...items].map(plain),
  };
}
