import type { Findings, Item } from './group.ts';

/** The layout of the preflight of Nex 0.1, so that people and scripts that know it find their way. */
export function printGroup(title: string, { folders, items }: Findings): string {
  const lines = [`Validating - ${title}`];
  for (const { path, items: found } of folders) {
    lines.push(`\t🔎 Searching - ${path}`, ...found.map((item) => `\t  ${line(item)}`));
  }
  lines.push(...items.map((item) => `\t  ${line(item)}`), '');
  return lines.join('\n');
}

function line({ name, met, essential, detail, hint }: Item): string {
  if (met) return `✅ Dependency Satisfied - ${detail} [${name}]`;
  const todo = hint === undefined ? '' : `; ${hint}`;
  return `⛔ Dependency Missing - ${name}${essential ? '' : ' (optional)'}: ${detail}${todo}`;
}
