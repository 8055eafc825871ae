/** How this very command is run: program and first arguments. */
export function nexCommand(): string[] {
  return [process.execPath, ...process.execArgv, ...process.argv.slice(1, 2)];
}
