export const PACKAGE = 'nix';
