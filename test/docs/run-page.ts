import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findTool, waitFor } from '@nex-nix/test-kit';
import { firstDifference, hasShown } from './compare.ts';
import { type Block, type Command, commandsOf, CONSOLE, INTERRUPT, parsePage } from './page.ts';
import type { Outcome, Shell } from './shell.ts';
import { goEnvironment } from './go-modules.ts';
import { ROOT } from './pages.ts';
import { CHECKOUT, HOME, World } from './world.ts';

/** How long a command may take, and how long what is shown may take to come, in milliseconds. */
const TIMEOUT = 120_000;
const PATIENCE = 60_000;
/** Between two looks at what is to come about by itself, in milliseconds. */
const INTERVAL = 250;

/** A command line that needs modules of Go. */
const GO = /^\$ .*\bgo (?:get|build|mod)\b/;

/** A command that printed something else than the page shows. */
interface Change {
  command: Command;
  printed: string[];
}

export interface PageRun {
  /** Empty unless changes were asked for. */
  changes: Change[];
  /** Blocks that were not run as their tools are not on this machine. */
  skipped: string[];
}

interface RunPageOptions {
  /** Instead of throwing, go on where a command prints something else than is shown. @default false */
  collect?: boolean;
  /** Told of each command before it runs. */
  onCommand?: (command: Command) => void;
}

/**
 * Does what a page says on a machine of its own, from top to bottom, and compares what is printed with what the page shows.
 * Throws at the first difference, and at an exit code other than 0 that the page does not name.
 *
 * @param page Path from the root of the repository. README.md starts in the checkout, others in the home.
 */
export async function runPage(page: string, { collect = false, onCommand }: RunPageOptions = {}): Promise<PageRun> {
  const blocks = parsePage(await readFile(join(ROOT, page), 'utf8'));
  const usesGo = blocks.some(({ language, content }) => language === CONSOLE && content.some((line) => GO.test(line)));
  await using world = await World.open(usesGo ? await goEnvironment() : {});
  const shells = new Map<string, Shell>();
  const folder = page === 'README.md' ? CHECKOUT : HOME;
  const shellOf = (name: string): Shell => {
    const shell = shells.get(name) ?? world.openShell(folder);
    shells.set(name, shell);
    return shell;
  };
  const run: PageRun = { changes: [], skipped: [] };
  for (const block of blocks) {
    const missing = toolsOf(block).filter((tool) => findTool(tool) === undefined);
    const file = block.notes.get('file');
    if (missing.length > 0) run.skipped.push(`${page}:${block.line}: ${missing.join(', ')} not installed`);
    else if (file !== undefined) await writeThere(shellOf('main'), file, block);
    else if (block.language === CONSOLE && !block.notes.has('not run') && !block.notes.has('run by')) {
      const shell = shellOf(block.notes.get('terminal') ?? 'main');
      const commands = commandsOf(block);
      for (const command of commands) {
        onCommand?.(command);
        const isLast = command === commands.at(-1);
        const printed = await runCommand(shell, { page, block, command, isLast });
        if (printed === undefined) continue;
        if (!collect) throw new Error(describeDifference(page, command, printed));
        run.changes.push({ command, printed });
      }
    }
  }
  await expectNothingRuns(page, world);
  return run;
}

/** Who follows a page to its end is left with nothing that runs. */
async function expectNothingRuns(page: string, world: World): Promise<void> {
  const running = () => world.processes();
  try {
    await waitFor('all to end', async () => (await running()).length === 0);
  } catch (error) {
    throw new Error(`${page} leaves running:\n${(await running()).join('\n')}`, { cause: error });
  }
}

/** The tools that a block is skipped without. */
function toolsOf({ notes }: Block): string[] {
  return (notes.get('needs') ?? '').split(/[ ,]+/).filter(Boolean);
}

interface Step {
  page: string;
  block: Block;
  command: Command;
  isLast: boolean;
}

/** Returns what was printed where it is not what is shown. */
async function runCommand(shell: Shell, { page, block, command, isLast }: Step): Promise<string[] | undefined> {
  const at = `${page}:${command.line}`;
  const isAsShown = (lines: readonly string[]) =>
    command.output.length === 0 || firstDifference(command.output, lines) === undefined;
  if (command.text === INTERRUPT) {
    const lines = await shell.interrupt({ timeout: PATIENCE });
    return hasShown(command.output, lines) ? undefined : lines;
  }
  if (block.notes.has('stays up') && isLast) {
    await shell.start(command.text, (lines) => hasShown(command.output, lines), { timeout: PATIENCE });
    return undefined;
  }
  const wanted = isLast ? Number(block.notes.get('exit') ?? 0) : 0;
  let outcome: Outcome;
  const deadline = Date.now() + PATIENCE;
  do {
    outcome = await shell.run(command.text, { timeout: TIMEOUT });
    if (outcome.code === wanted && isAsShown(outcome.lines)) return undefined;
    if (block.notes.has('eventually')) await new Promise((resolve) => setTimeout(resolve, INTERVAL));
  } while (block.notes.has('eventually') && Date.now() < deadline);
  if (outcome.code !== wanted) {
    throw new Error(
      `${at}: exit code ${outcome.code} instead of ${wanted} of "${command.text}":\n${outcome.lines.join('\n')}`,
    );
  }
  return outcome.lines;
}

function describeDifference(page: string, { line, text, output }: Command, printed: readonly string[]): string {
  const missing = firstDifference(output, printed) ?? '';
  const what = missing === '' ? 'more than is shown' : `no "${missing}"`;
  return `${page}:${line}: "${text}" does not print what is shown: ${what}. It printed:
${printed.join('\n')}
To write that into the page: npm run docs:update -- ${page}`;
}

/** Writes a file as a reader would with an editor: into the folder that the terminal is in. */
async function writeThere(shell: Shell, file: string, { content }: Block): Promise<void> {
  const quoted = file.replaceAll("'", `'\\''`);
  const base64 = Buffer.from(`${content.join('\n')}\n`).toString('base64');
  const { code, lines } = await shell.run(
    `mkdir -p "$(dirname '${quoted}')" && base64 -d <<<'${base64}' >'${quoted}'`,
    {
      timeout: TIMEOUT,
    },
  );
  if (code !== 0) throw new Error(`Cannot write "${file}": ${lines.join('\n')}`);
}

/** Writes what was printed into a page in place of what it shows. */
export async function writeChanges(page: string, changes: readonly Change[]): Promise<void> {
  const path = join(ROOT, page);
  const lines = (await readFile(path, 'utf8')).split('\n');
  // From the end, so that the lines before stay where they are.
  for (const { command, printed } of changes.toReversed()) {
    const first = command.line - 1 + command.text.split('\n').length;
    const shown = printed.map((line) => line.trimEnd());
    lines.splice(first, command.output.length, ...shown);
  }
  await writeFile(path, lines.join('\n'));
}
