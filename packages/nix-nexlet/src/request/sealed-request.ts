import {
  type EncryptedEnvironment,
  openEnvironment,
  sealEnvironment,
  type StartWorkloadRequest,
} from '@nex-nix/protocol';
import type { XKey } from '../nexlet-key.ts';
import { NixNexletError } from '../nix-nexlet-error.ts';
import { checkVariables } from './workload-plan.ts';

/**
 * Opens what a start request has sealed for this nexlet; nothing sealed is an empty environment. Errors name variables,
 * never values.
 *
 * @throws {NixNexletError} NIX_NEXLET_NOT_SEALED_FOR_US, NIX_NEXLET_REQUEST_INVALID
 */
export function openSealed(sealed: EncryptedEnvironment | undefined, key: XKey): Readonly<Record<string, string>> {
  if (sealed === undefined) return {};
  let environment: Record<string, string>;
  try {
    environment = openEnvironment(sealed, key);
  } catch (cause) {
    const message =
      'Cannot run this start request: its encrypted_environment cannot be opened with the key of this nexlet';
    throw new NixNexletError('NIX_NEXLET_NOT_SEALED_FOR_US', `${message}, ${key.getPublicKey()}`, {
      cause,
      hint: 'Seal it for the xkey in the bid that is used; nex workload start and nex devrun do so',
    });
  }
  checkVariables(environment, 'encrypted_environment');
  return environment;
}

/**
 * A start request for another nexlet to start: what is sealed for this one is sealed for `target` instead.
 *
 * @throws {NixNexletError} NIX_NEXLET_NOT_SEALED_FOR_US; {ProtocolError} NEX_SEAL_INVALID when `target` is no curve key
 */
export function resealFor(target: string, request: StartWorkloadRequest, key: XKey): StartWorkloadRequest {
  const runRequest = JSON.parse(request.run_request) as { encrypted_environment?: EncryptedEnvironment };
  if (runRequest.encrypted_environment === undefined) return request;
  const environment = openSealed(runRequest.encrypted_environment, key);
  const sealed = sealEnvironment(environment, { sender: key, recipient: target });
  return { ...request, run_request: JSON.stringify({ ...runRequest, encrypted_environment: sealed }) };
}
