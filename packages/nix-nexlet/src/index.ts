export { type Capacity, MACHINE } from './bid-terms.ts';
export { NixNexlet } from './nix-nexlet.ts';
export type { NixNexletOptions } from './nix-nexlet.ts';
export { NixNexletError } from './nix-nexlet-error.ts';
export type { NixNexletErrorCode } from './nix-nexlet-error.ts';
export { findProgram, requireStandalone } from './program.ts';
export { DEFAULTS, NixStartRequest, parseSize } from './start-request.ts';
export type { WorkloadDefaults } from './start-request.ts';
export type { PinStore } from './deployment-pins.ts';
