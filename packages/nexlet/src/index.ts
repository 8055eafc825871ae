export const PACKAGE = 'nexlet';
