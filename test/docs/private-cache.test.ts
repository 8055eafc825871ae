import { testPage } from './test-page.ts';

testPage('docs/tutorials/private-cache.md', ['nix', 'nix-build', 'curl']);
