import { testPage } from './test-page.ts';

testPage('docs/tutorials/three-node-cluster.md', ['busybox', 'pkill']);
