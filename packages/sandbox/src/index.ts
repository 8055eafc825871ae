export const PACKAGE = 'sandbox';
