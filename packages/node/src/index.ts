export const PACKAGE = 'node';
