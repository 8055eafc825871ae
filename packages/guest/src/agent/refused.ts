import { GuestError } from '../guest-error.ts';
import type { GuestErrorCodeOnWire } from '../protocol/messages.ts';

/** Why a request is not done: what its answer says. */
export function refused(refusal: GuestErrorCodeOnWire, message: string, options: ErrorOptions = {}): GuestError {
  return new GuestError('GUEST_REFUSED', message, { refusal, ...options });
}

/** Whether an error of the system has one of these codes. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' && codes.includes(code);
}
