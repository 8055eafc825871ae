export interface ServerConfig {
  port: number;
  monitorPort: number;
  /** The folder that holds everything of the server. */
  folder: string;
  operatorFile: string;
  systemAccount: string;
  systemAccountJwt: string;
}

/** Paths of what the server writes, below its folder. */
export function serverPaths(folder: string) {
  return {
    config: `${folder}/nats-server.conf`,
    pid: `${folder}/nats-server.pid`,
    ports: `${folder}/ports`,
    jetstream: `${folder}/jetstream`,
    jwt: `${folder}/jwt`,
  };
}

/** Text of the configuration of a nats-server in operator mode that listens on loopback only. Syntax: nats-server 2.9. */
export function formatServerConfig(config: ServerConfig): string {
  const paths = serverPaths(config.folder);
  return `# Written at each start of the dev services; changes are lost.
server_name: "nex-dev"
listen: "127.0.0.1:${config.port}"
http: "127.0.0.1:${config.monitorPort}"
pid_file: ${quote(paths.pid)}
ports_file_dir: ${quote(paths.ports)}

operator: ${quote(config.operatorFile)}
system_account: ${config.systemAccount}
resolver {
  type: full
  dir: ${quote(paths.jwt)}
  allow_delete: true
  interval: "2m"
  timeout: "1.9s"
}
resolver_preload {
  ${config.systemAccount}: ${config.systemAccountJwt}
}

jetstream {
  store_dir: ${quote(paths.jetstream)}
}
`;
}

/** A string of nats-server's configuration language, in which backslash and quotes are escaped as in JSON. */
function quote(text: string): string {
  return JSON.stringify(text);
}
