# A machine with NATS, a node and the cache, by this repository's modules: a workload survives a restart of its node and is killed
# with the unit of workloads; Nix clients write to the cache and read from it.
{
  closureInfo,
  hello,
  lib,
  nex,
  pkgsStatic,
  testers,
}:
let
  token = "a-token-of-this-check-alone";
  # Ships without anything else.
  inherit (pkgsStatic) busybox;
  closure = closureInfo { rootPaths = [ hello ]; };
in
testers.runNixOSTest {
  name = "nex-node";

  nodes.machine =
    { pkgs, ... }:
    {
      imports = [
        ../modules/nex-node.nix
        ../modules/nex-cache.nix
      ];
      services.nats = {
        enable = true;
        jetstream = true;
      };
      services.nex-node = {
        enable = true;
        package = nex;
        settings = {
          node_name = "machine";
          nats.servers = [ "nats://127.0.0.1:4222" ];
          metrics_port = 9123;
        };
      };
      services.nex-cache = {
        enable = true;
        package = nex;
        settings.nats.servers = [ "nats://127.0.0.1:4222" ];
        credentials.token_file = "/etc/nex/token";
      };
      # Secrets are no files of the store; these are no secrets.
      environment.etc = {
        "nex/token".text = token;
        "nex/netrc".text = "machine 127.0.0.1 login nex password ${token}";
      };
      environment.systemPackages = [
        nex
        pkgs.curl
        pkgs.jq
      ];
      nix.settings.experimental-features = [ "nix-command" ];
      virtualisation = {
        cores = 2;
        memorySize = 2048;
        writableStore = true;
        additionalPaths = [
          busybox
          closure
        ];
      };
    };

  testScript = ''
    def ready():
        machine.wait_until_succeeds("curl --fail --silent http://127.0.0.1:9123/healthz")

    machine.wait_for_unit("nex-node.service")
    ready()

    with subtest("a job runs to its end, below the unit of workloads"):
        said = machine.succeed(
            "nex devrun ${busybox}/bin/busybox --name job --lifecycle job --follow --memory 32MiB"
            " --argv cat --argv /proc/1/cgroup"
        )
        print(said)
        machine.succeed("test -d /sys/fs/cgroup/system.slice/nex-workloads.service/nex-nix")

    with subtest("a service survives a restart of its node, and the node's end by SIGKILL"):
        machine.succeed("nex devrun ${busybox}/bin/busybox --name ticker --argv sh --argv -c --argv 'while sleep 1; do echo tick; done'")
        before = machine.succeed("pgrep --full 'echo tick' | sort").strip()
        machine.succeed("systemctl restart nex-node")
        ready()
        assert before in machine.succeed("pgrep --full 'echo tick' | sort")
        machine.succeed("systemctl kill --signal=KILL --kill-whom=main nex-node")
        machine.wait_until_succeeds("nex workload list | grep ticker")
        assert before in machine.succeed("pgrep --full 'echo tick' | sort")

    with subtest("the unit of workloads takes node and workloads along"):
        machine.succeed("systemctl stop nex-workloads")
        machine.fail("systemctl is-active nex-node")
        machine.fail("pgrep --full 'echo tick'")
        machine.succeed("systemctl start nex-node")
        ready()

    with subtest("Nix writes to the cache and reads from it"):
        machine.wait_for_open_port(8080)
        nix = "nix --option netrc-file /etc/nex/netrc"
        machine.succeed(f"{nix} copy --to 'http://127.0.0.1:8080?compression=zstd' ${hello}")
        machine.succeed(
            "curl --fail --silent http://127.0.0.1:8080/$(basename ${hello} | cut --characters=1-32).narinfo"
        )
        key = machine.succeed("nex --json cache info | jq --raw-output .publicKey").strip()
        machine.succeed(
            f"{nix} copy --from http://127.0.0.1:8080 --to /tmp/store --option trusted-public-keys '{key}' ${hello}"
        )
        machine.succeed("test -x /tmp/store${lib.getExe hello}")
  '';
}
