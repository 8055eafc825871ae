export const PACKAGE = 'protocol';
