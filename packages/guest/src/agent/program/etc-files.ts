/** What every root has in `/etc` beside what a guest is told of its hosts. */
export function etcFiles({ uid, gid, hosts, resolvConf }: EtcOptions): Record<string, string> {
  return {
    passwd: `nex:x:${uid}:${gid}::/tmp:/bin/false\nnobody:x:65534:65534::/:/bin/false\n`,
    group: `nex:x:${gid}:\nnogroup:x:65534:\n`,
    hosts,
    // glibc asks DNS before /etc/hosts when there is no such file.
    'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
    'resolv.conf': resolvConf,
  };
}

export interface EtcOptions {
  uid: number;
  gid: number;
  hosts: string;
  resolvConf: string;
}
