import { subjectToken } from '@nex-nix/protocol';
import { ControllerError } from '../controller-error.ts';

const MAX_NAME = 200;

/**
 * The key of a deployment in every bucket: `<namespace>.<name>`. Bytes that a key cannot hold are written `=XX`.
 *
 * @throws {ControllerError} DEPLOYMENT_INVALID; ProtocolError NEX_SUBJECT_INVALID for the namespace
 */
export function deploymentKey(namespace: string, name: string): string {
  if (name === '' || name.length > MAX_NAME) {
    throw new ControllerError(
      'DEPLOYMENT_INVALID',
      `Cannot name a deployment "${name}": a name has 1 to ${MAX_NAME} characters`,
    );
  }
  return `${escape(subjectToken(namespace, 'namespace'))}.${escape(name)}`;
}

/** The beginning of the keys of a namespace. */
export function keyPrefix(namespace: string): string {
  return `${escape(subjectToken(namespace, 'namespace'))}.`;
}

function escape(text: string): string {
  return text.replaceAll(/[^A-Za-z0-9_-]/gu, (char) =>
    [...new TextEncoder().encode(char)].map((byte) => `=${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  );
}
