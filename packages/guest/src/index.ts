export { GuestError } from './guest-error.ts';
export type { GuestErrorCode } from './guest-error.ts';
export { GuestConnection } from './host/guest-connection.ts';
export type { OpenOptions } from './host/guest-connection.ts';
export type { HostRequest, RequestOptions } from './host/requests.ts';
export { MANIFEST_FILE } from './image/manifest.ts';
export { agentBundle } from './image/agent-bundle.ts';
export { buildMinimalGuest } from './image/build-minimal-guest.ts';
export type { GuestImagePath, MinimalGuestOptions } from './image/build-minimal-guest.ts';
export { buildErofs } from './image/erofs.ts';
export type { ErofsOptions } from './image/erofs.ts';
export { readGuestImage } from './image/guest-image.ts';
export type { ReadGuestImageOptions } from './image/guest-image.ts';
export { findKernel } from './image/machine-kernel.ts';
export type { KernelFiles } from './image/machine-kernel.ts';
export type { TreeEntry } from './image/tree-entry.ts';
export type { GuestManifest, ImageFile } from './image/manifest.ts';
export type { AnswerValues } from './protocol/guest-message.ts';
export type * from './protocol/messages.ts';
export {
  MAX_HOST_PAYLOAD,
  MAX_PAYLOAD,
  OUTPUT_WINDOW,
  PORT_NAME,
  PROTOCOL_VERSIONS,
  VSOCK_PORT,
} from './protocol/messages.ts';
