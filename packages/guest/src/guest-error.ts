import { errorClass, type ErrorKind } from '@nex-nix/errors';

/** Code of every error of this package, with the kind it always has. */
const KINDS = {
  /** What came over the channel is not of the protocol. The guest can no longer be trusted to be what it was. */
  GUEST_PROTOCOL: 'failed',
  /** Host and guest have no version of the protocol in common. */
  GUEST_VERSION: 'failed',
  /** The channel ended while an answer was waited for. */
  GUEST_DISCONNECTED: 'failed',
  /** No answer came in time. */
  GUEST_TIMEOUT: 'failed',
  /** The guest refused a request; `code` of the answer is in the message. */
  GUEST_REFUSED: 'failed',
  /** A guest image is not there, or not whole, or not what its manifest says. */
  GUEST_IMAGE_INVALID: 'not-found',
  /** A guest image or a disk cannot be built. */
  GUEST_BUILD_FAILED: 'failed',
  /** A program that building needs is not on this machine. */
  GUEST_TOOL_MISSING: 'not-found',
} as const satisfies Record<string, ErrorKind>;

export type GuestErrorCode = keyof typeof KINDS;

/** The errors that this package throws on purpose. */
export class GuestError extends errorClass(KINDS) {}
