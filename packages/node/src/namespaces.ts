import { ProtocolError, subjectScope, subjectToken, SYSTEM_NAMESPACE } from '@nex-nix/protocol';
import { Refusal } from './node-context.ts';

/**
 * A request acts in the namespace of its body, which must be that of its subject; `system` may act in any.
 * The name must be usable in subjects, because it ends up in permissions.
 */
export function checkNamespace(subject: string, bodyNamespace: string): void {
  const caller = subjectScope(subject);
  if (caller !== SYSTEM_NAMESPACE && caller !== bodyNamespace) {
    throw new Refusal(403, `namespace mismatch: ${caller} != ${bodyNamespace}`, { detail: 'namespace mismatch' });
  }
  try {
    subjectToken(bodyNamespace, 'namespace');
  } catch (cause) {
    if (cause instanceof ProtocolError) throw new Refusal(400, 'invalid namespace', { cause });
    throw cause;
  }
}
