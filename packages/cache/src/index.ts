export const PACKAGE = 'cache';
