import { errorClass, type ErrorKind, type NexErrorOptions } from '@nex-nix/errors';
import type { GuestErrorCodeOnWire } from './protocol/messages.ts';

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
  /** The guest refused a request, for the reason in `refusal`. */
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
export class GuestError extends errorClass(KINDS) {
  /** With `GUEST_REFUSED`: why, in the words of the protocol. */
  readonly refusal: GuestErrorCodeOnWire | undefined;

  constructor(
    code: GuestErrorCode,
    message: string,
    options: NexErrorOptions & { refusal?: GuestErrorCodeOnWire } = {},
  ) {
    super(code, message, options);
    this.refusal = options.refusal;
  }
}
