import { testPage } from './test-page.ts';

testPage('docs/tutorials/first-service.md', ['go', 'nats']);
