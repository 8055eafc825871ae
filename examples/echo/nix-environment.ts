import { readFile } from 'node:fs/promises';

/** Environment for Nix commands that work on a fresh machine. `settings` are lines of nix.conf that win over the machine's own. */
export async function nixEnvironment(settings: string[] = []): Promise<NodeJS.ProcessEnv> {
  const lines = ['extra-experimental-features = nix-command flakes', ...settings];
  // Root builds as itself where nobody has made the build users, as with Debian's package without its daemon.
  if (process.getuid?.() === 0 && !(await hasBuildUsers())) lines.push('build-users-group =');
  const own = process.env['NIX_CONFIG'];
  return { ...process.env, NIX_CONFIG: [...(own === undefined ? [] : [own]), ...lines].join('\n') };
}

async function hasBuildUsers(): Promise<boolean> {
  return /^nixbld:/m.test(await readFile('/etc/group', 'utf8'));
}
