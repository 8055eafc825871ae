export const PACKAGE = 'devenv';
