# The settings of a node: the keys of its configuration file, which are the options of `nex node up` and of `nex` itself with
# `_` for `-`. A test holds this list against those commands (test/nix/modules.test.ts). What is left out has the default that
# the command has; there is no other place for defaults.
{ lib }:
let
  inherit (lib) types;
  connection = import ./connection.nix { inherit lib; };
  inherit (connection) choice option path;
  text = option types.str;
  flag = option types.bool;
  count = option types.ints.unsigned;
  sandbox = types.enum [
    "oci"
    "microvm"
  ];
  texts = option (types.listOf types.str);
  paths =
    description:
    option (types.listOf types.path) description
    // {
      apply = value: if value == null then null else map (folder: "${folder}") value;
    };
  size = option (types.either types.ints.positive types.str);
in
{
  settings = connection.settings // {
    # Who the node is and what it keeps.
    node_name = text "Name of the node. Default: the host name.";
    nexus = text "Group of nodes that it belongs to.";
    tags = option (types.attrsOf types.str) "What workloads may ask for.";
    state_dir = lib.mkOption {
      type = types.str;
      default = "/var/lib/nex-nix";
      description = "Folder with its identity, store, sandboxes and cache key.";
    };
    state = choice "Where it keeps what it is to run. Default: `kv` where JetStream is." [
      "kv"
      "none"
    ];
    events = choice "Where its events go." [
      "nats"
      "logs"
      "none"
    ];
    retain = flag "Make the stream that keeps logs and events, where there is none.";
    jetstream_replicas = option (types.ints.between 1 5) "Copies in a cluster of what it makes in JetStream: the cache, its state, the controller's, kept logs and events.";
    cache_storage = choice "Where JetStream keeps the cache. Default: `file`." [
      "file"
      "memory"
    ];
    cache_max_size = size "How much the cache may hold, such as `100GiB`.";

    # What it runs.
    max_workloads = count "How many workloads it takes; 0: as many as come.";
    auction_ttl = text "How long a bid holds, such as `10s`.";
    agent_restart_limit = count "How often a nexlet that ends is started again.";
    allow_remote_agent_registration = flag "Take nexlets that nobody has started here.";
    agents = option (types.listOf (
      types.submodule {
        options = {
          uri = lib.mkOption {
            type = types.str;
            example = "file:///opt/nexlet";
            description = "Program of the nexlet.";
          };
          argv = lib.mkOption {
            type = types.listOf types.str;
            default = [ ];
            description = "Its arguments.";
          };
          env = lib.mkOption {
            type = types.attrsOf types.str;
            default = { };
            description = "Its environment.";
          };
        };
      }
    )) "Nexlets that run as processes of their own.";
    show_workload_logs = flag "Log what workloads print.";
    trusted_public_keys = texts "More keys to trust; that of the own cache is trusted.";
    controller = flag "Look after replicated workloads. `false`: leave that to other nodes.";
    cgroup_parent = lib.mkOption {
      type = types.str;
      default = "/system.slice/nex-workloads.service";
      description = ''
        Control group that workloads are put below, from the root of the tree. It has to be there, and systemd must have
        delegated it. Default: that of `nex-workloads.service`, which has no other purpose.
      '';
    };
    allow_unlimited = flag "Run workloads even where this machine cannot enforce their limits.";
    on_shutdown = lib.mkOption {
      type = types.enum [
        "stop"
        "leave"
      ];
      default = "leave";
      description = ''
        What happens to running workloads when the node ends. They are left to its next start, so that a new configuration
        of the system does not interrupt them; `systemctl stop nex-workloads` ends node and workloads.
      '';
    };
    workload_network = choice "Network of workloads that name none." [
      "bridge"
      "host"
      "none"
    ];
    workload_memory = size "Memory limit of workloads that name none, such as `256MiB`.";
    workload_cpus = option (types.either types.ints.positive types.float) "Processor limit of workloads that name none.";
    workload_pids = option types.ints.positive "Limit of processes of workloads that name none.";
    workload_tmp = size "Size of `/tmp` of workloads that name none.";
    workload_log_rate = size "What an output stream of theirs may have a second.";

    # Sandboxes.
    sandbox = option sandbox "That of workloads that name none. Default: `microvm` with an image.";
    sandboxes = option (types.listOf sandbox) "Those that may be named. Default: all there are.";
    guest_image = path "Image of virtual machines, such as the package `guest-image`.";
    vmm = choice "What runs virtual machines." [
      "qemu"
      "firecracker"
    ];
    accel = choice "How QEMU runs them." [
      "auto"
      "kvm"
      "tcg"
    ];
    jailer = flag "Start Firecracker by its jailer.";
    machine_pool_size = option (types.ints.between 0 1000) "Virtual machines that are kept booted.";
    machine_vcpus = option (types.ints.between 1 255) "Processors of each of them.";
    machine_memory = size "What a program in one of them can have, 96 MiB at least.";
    machine_timeout = text "How long one may take from its start to its agent, such as `30s`.";
    bin_path = paths "Folders that programs are looked for in before those of PATH.";

    # The network `bridge`.
    bridge_name = option (types.strMatching "[A-Za-z0-9][A-Za-z0-9_.-]{0,14}") "Interface that connects workloads of network `bridge`. Default: `nex0`.";
    bridge_subnet = option (types.strMatching "[0-9.]+/[0-9]{1,2}") "Their addresses, the first is this machine. Default: `10.217.64.0/20`.";
    cni_path = paths "Folders of CNI plugins. Default: those of the package.";
    cni_config = path "CNI configuration list that connects workloads in place of that bridge.";
    cni_network = text "The same, by its name in `/etc/cni/conf.d`, if it is there.";
    dns = texts "Their name servers. Default: those of this machine.";

    # Metrics.
    metrics_port = option types.port "Serve `/metrics` and `/healthz` over HTTP; 0: a free port.";
    metrics_address = text "Where to listen for that. Default: `127.0.0.1`.";

    # What nexlets and workloads may do on NATS. Keys and seeds are credentials.
    issuer_signing_key_root_account = text "Public key, `A…`, of the account that mints.";
    issuer_nkey = text "Public nkey, `U…`, that all nexlets and workloads share.";
    credentials_ttl = text "How long credentials of nexlets hold, such as `1d`.";
    workload_credentials_ttl = text "How long credentials of workloads hold, such as `30d`.";
    workload_publish = texts "May be published to too; has `{namespace}`, `{id}`, `{name}`.";
    workload_subscribe = texts "May be subscribed to too, written likewise.";
    private_inboxes = flag "Let workloads listen to inboxes below their own prefix only.";
  };

  credentials = connection.credentials // {
    issuer_signing_key = {
      flag = "--issuer-signing-key";
      description = "Account signing key, `SA…`, that mints credentials of nexlets and workloads.";
    };
    issuer_nkey_seed = {
      flag = "--issuer-nkey-seed";
      description = "Seed, `SU…`, of the nkey `issuer_nkey`.";
    };
    issuer_operator_seed = {
      flag = "--issuer-operator-seed";
      description = "Seed, `SO…`, of the operator: takes credentials back when a workload stops.";
    };
    system_context = {
      flag = "--system-context";
      isContext = true;
      description = "natscli context, as JSON, of a user of the system account, for that.";
    };
    cache_key_file = {
      flag = "--cache-key-file";
      description = "Key that its cache signs with, made by `nex cache keygen`. Default: one of its own in the state folder.";
    };
    node_seed = {
      flag = "--node-seed";
      description = "Server seed, `SN…`: who the node is. Default: what its state folder says.";
    };
    node_xkey_seed = {
      flag = "--node-xkey-seed";
      description = "Curve seed, `SX…`, likewise.";
    };
  };
}
