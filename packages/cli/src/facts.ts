/** Lines of `Name: value`, the colons below each other; a value of several lines is indented. */
export function facts(rows: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length)) + 1;
  const indent = `\n${' '.repeat(width + 3)}`;
  return rows.map(([name, value]) => `  ${`${name}:`.padStart(width)} ${value.replaceAll('\n', indent)}`).join('\n');
}
