import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Command } from 'commander';
import { CliError } from '../cli-error.ts';
import { action, type Context } from '../context.ts';

export const cacheKeygen = (): Command =>
  new Command('keygen')
    .description('Make a key for a cache to sign with; prints the public key')
    .requiredOption('--name <name>', 'name of the key, for example cache.example.org-1')
    .option(
      '--out <file>',
      'where the secret key goes, readable by its owner only; must not exist; default: to be the key of the context in use',
    )
    .addHelpText(
      'after',
      '\nThe key of a context is what nodes and nex cache serve sign with that are started with this context and no other key.' +
        '\n\nExamples:\n  nex cache keygen --name cache.example.org-1 --out cache.key\n  nex node up --cache-key-file cache.key' +
        '\n  nex --context ExpNode cache keygen --name cache.example.org-1\n  nex --context ExpNode node up',
    )
    .action(
      action<{ name: string; out?: string }>(async (context, options) => {
        const { name } = options;
        const { formatPublicKey, formatSecretKey, generateSecretKey, publicKeyOf } = await import('@nex-nix/nix');
        if (name === '' || /[:\s]/.test(name)) {
          throw new CliError(
            'CLI_USAGE',
            `Cannot make a key with the name "${name}": it is empty or has a colon or white space`,
            {
              hint: 'nex cache keygen --name cache.example.org-1 --out cache.key',
            },
          );
        }
        const out = options.out ?? (await fileOfContext(context));
        const secretKey = generateSecretKey(name);
        try {
          await writeFile(out, `${formatSecretKey(secretKey)}\n`, { flag: 'wx', mode: 0o600, flush: true });
        } catch (error) {
          throw cannotWrite(out, error as NodeJS.ErrnoException);
        }
        const publicKey = formatPublicKey(publicKeyOf(secretKey));
        return { value: { name, publicKey, file: out }, text: publicKey };
      }),
    );

async function fileOfContext({ connection }: Context): Promise<string> {
  const { contextKeyFile } = await import('../cache-key-file.ts');
  const file = await contextKeyFile(connection);
  if (file === undefined) {
    throw new CliError('CLI_USAGE', 'Cannot make the key of a context: none is in use', {
      hint: 'Name one: --context NAME; or a file: --out FILE',
    });
  }
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  return file;
}

function cannotWrite(file: string, cause: NodeJS.ErrnoException): CliError {
  if (cause.code === 'EEXIST') {
    return new CliError('CLI_FILE_EXISTS', `Cannot write the secret key to "${file}": there is such a file already`, {
      cause,
      hint: 'Name another file; a key that signed something is still needed',
    });
  }
  const why = cause.code === 'ENOENT' ? 'there is no such folder' : cause.message;
  return new CliError('CLI_USAGE', `Cannot write the secret key to "${file}": ${why}`, { cause });
}
