export { GuestError } from './guest-error.ts';
export type { GuestErrorCode } from './guest-error.ts';
export { MANIFEST_FILE } from './image/manifest.ts';
export type { GuestManifest, ImageFile } from './image/manifest.ts';
export type * from './protocol/messages.ts';
export { MAX_PAYLOAD, OUTPUT_WINDOW, PORT_NAME, PROTOCOL_VERSIONS, VSOCK_PORT } from './protocol/messages.ts';
