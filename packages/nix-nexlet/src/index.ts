export const PACKAGE = 'nix-nexlet';
