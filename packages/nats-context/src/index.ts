export const PACKAGE = 'nats-context';
