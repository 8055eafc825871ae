/** What a kernel prints when it panics has some 50 lines, and the first tells most. */
const TAIL_LINES = 80;
const TAIL_CHARACTERS = 8192;

/** Everything that could do something to a terminal. */
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** The last lines of a guest's console, harmless to print. */
export function consoleText(console: string): string {
  const lines = console.replaceAll(CONTROL, '').trim().split('\n');
  return lines.slice(-TAIL_LINES).join('\n').slice(-TAIL_CHARACTERS);
}
