# NixOS module: a node on this machine. ../README.md shows how to use it; ../../docs/decisions/0034-nixos-modules.md says why the
# units are as they are.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.nex-node;
  inherit (lib) mkOption types;
  inherit (cfg) settings;

  daemon = import ./daemon.nix { inherit lib pkgs; };
  declared = import ./node-settings.nix { inherit lib; };
  unit = daemon.unit {
    name = "nex-node";
    command = [
      (lib.getExe cfg.package)
      "node"
      "up"
    ];
    known = declared.credentials;
    given = cfg.credentials;
    # Lists whose items the command line separates by spaces.
    settings = settings // {
      trusted_public_keys =
        if settings.trusted_public_keys == null then
          null
        else
          lib.concatStringsSep " " settings.trusted_public_keys;
    };
  };

  bridge = if settings.bridge_name == null then "nex0" else settings.bridge_name;
  # With a list of the administrator's, its bridge and its rules are his as well.
  hasOwnBridge = cfg.bridge.enable && settings.cni_config == null && settings.cni_network == null;
  hasMachines = settings.guest_image != null;
  wantsMachines =
    settings.sandbox == "microvm"
    || lib.elem "microvm" (if settings.sandboxes == null then [ ] else settings.sandboxes);
  usesKvm = hasMachines && settings.accel != "tcg";
  # Beside those that every program has, such as /dev/null. The jailer of Firecracker makes nodes of its own.
  devices = {
    DevicePolicy = "closed";
    DeviceAllow = lib.optional usesKvm "/dev/kvm rwm" ++ lib.optional hasMachines "/dev/net/tun rwm";
  };
  metricsPort = if settings.metrics_port == null then 0 else settings.metrics_port;
  isLoopback = lib.elem settings.metrics_address [
    null
    "127.0.0.1"
    "::1"
    "localhost"
  ];
in
{
  options.services.nex-node = {
    enable = lib.mkEnableOption "a node that runs workloads for whoever may ask on NATS";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../packages/nex.nix { };
      defaultText = lib.literalMD "`nex` of the same sources as this module";
      description = "Package with the command `nex`.";
    };

    extraPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
      description = "Packages with programs that the node is to find, such as `pkgs.firecracker`.";
    };

    settings = mkOption {
      type = types.submodule { options = declared.settings; };
      default = { };
      example = {
        node_name = "rack1";
        tags.region = "lab";
        nats.servers = [ "nats://nats.example.org:4222" ];
      };
      description = ''
        Keys of the node's configuration file. `nex node up --help` says more about each of them; what is not set has
        the default that the command has. Other keys are refused.
      '';
    };

    credentials = daemon.credentialOptions declared.credentials;

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Let other machines reach the port of `settings.metrics_port`. Ports that workloads expose at the bridge need no
        opening: they are forwarded, and the node's own rules allow those and no others.
      '';
    };

    bridge.enable = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Prepare this machine for workloads with the network `bridge`: it forwards IPv4, its firewall leaves the bridge
        to the node's own rules, and nothing configures the interfaces but the node.
      '';
    };

    stopTimeout = mkOption {
      type = types.str;
      default = if settings.on_shutdown == "stop" then "150s" else "30s";
      defaultText = lib.literalMD "`30s`, and `150s` with `settings.on_shutdown = \"stop\"`";
      description = ''
        How long the node may take to end. With `on_shutdown = "stop"` it waits for its workloads, each of which may take
        the grace that it was started with. A node that is killed loses nothing: its next start finds all.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = unit.assertions ++ [
      {
        assertion = settings.vmm != "firecracker" || settings.accel != "tcg";
        message = "services.nex-node.settings: Firecracker needs KVM, so `accel` cannot be \"tcg\"";
      }
      {
        assertion = !wantsMachines || hasMachines;
        message = "services.nex-node.settings: virtual machines need a `guest_image`";
      }
      {
        assertion = settings.jailer != true || settings.vmm == "firecracker";
        message = "services.nex-node.settings: the `jailer` is Firecracker's, set `vmm = \"firecracker\"`";
      }
      {
        assertion =
          settings.sandboxes == null
          || settings.sandbox == null
          || lib.elem settings.sandbox settings.sandboxes;
        message = "services.nex-node.settings: `sandboxes` does not have the `sandbox` of workloads that name none";
      }
      {
        assertion = settings.cni_config == null || settings.cni_network == null;
        message = "services.nex-node.settings: `cni_config` and `cni_network` both name a list, set one of them";
      }
      {
        assertion = !cfg.openFirewall || (metricsPort != 0 && !isLoopback);
        message = "services.nex-node.openFirewall: there is nothing to open, set `settings.metrics_port`, and `settings.metrics_address` to what other machines reach";
      }
      {
        assertion =
          (cfg.credentials.issuer_signing_key == null) == (settings.issuer_signing_key_root_account == null);
        message = "services.nex-node: the credential `issuer_signing_key` and `settings.issuer_signing_key_root_account` come together";
      }
      {
        assertion = (cfg.credentials.issuer_nkey_seed == null) == (settings.issuer_nkey == null);
        message = "services.nex-node: the credential `issuer_nkey_seed` and `settings.issuer_nkey` come together";
      }
      {
        assertion = cfg.credentials.issuer_signing_key == null || settings.issuer_nkey == null;
        message = "services.nex-node: credentials are minted by a signing key or by an nkey, set one of them";
      }
      {
        assertion =
          (cfg.credentials.issuer_operator_seed == null) == (cfg.credentials.system_context == null);
        message = "services.nex-node.credentials: `issuer_operator_seed` and `system_context` come together";
      }
      {
        assertion = config.security.allowUserNamespaces;
        message = "services.nex-node: sandboxes are in user namespaces, leave security.allowUserNamespaces on";
      }
    ];
    warnings =
      lib.optional
        (hasOwnBridge && config.networking.nftables.enable && config.networking.nftables.flushRuleset)
        "services.nex-node: networking.nftables.flushRuleset also removes the rules that keep workloads at the bridge apart, until the node is started again";

    # Where sandboxes are: the part of the tree of control groups that systemd leaves to the node. It is not below the node's
    # own, so that a node that ends, however it does, takes none along.
    systemd.services.nex-workloads = {
      description = "Workloads of the nex node";
      restartIfChanged = false;
      serviceConfig = devices // {
        Type = "exec";
        # systemd removes control groups without processes. The node moves this one aside.
        ExecStart = "${pkgs.coreutils}/bin/sleep infinity";
        Delegate = true;
        TasksMax = "infinity";
        # A workload that has used up its memory is the node's business.
        OOMPolicy = "continue";
        # How long a program may take at the end of the machine, before it is killed.
        TimeoutStopSec = "30s";
      };
    };

    systemd.services.nex-node = {
      description = "nex node";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      # A server on this machine is to be there first, and to go last.
      after = [
        "network-online.target"
        "nats.service"
        "nex-workloads.service"
      ];
      bindsTo = [ "nex-workloads.service" ];
      # Shells set up network namespaces, and units of NixOS have none on their PATH.
      path = [ pkgs.bash ] ++ cfg.extraPackages;
      inherit (unit) environment;
      # Until its server is there.
      startLimitIntervalSec = 0;
      serviceConfig =
        import ./hardening.nix
        // devices
        // {
          Type = "exec";
          inherit (unit) ExecStart LoadCredential;
          Restart = "always";
          RestartSec = "2s";
          # Settings that make no sense make none the next time either.
          RestartPreventExitStatus = "2";
          # All that is to outlive the node is in the control group of nex-workloads.service.
          KillMode = "mixed";
          TimeoutStopSec = cfg.stopTimeout;
          StateDirectory = lib.mkIf (settings.state_dir == "/var/lib/nex-nix") "nex-nix";
          StateDirectoryMode = "0711";

          # Nothing that gives the unit a mount namespace of its own: what is mounted in there (network namespaces of workloads)
          # would be out of sight of the node's next start. Nothing that hides part of /proc: no container could mount its own.
          CapabilityBoundingSet = [
            "CAP_CHOWN"
            "CAP_DAC_OVERRIDE"
            "CAP_DAC_READ_SEARCH"
            "CAP_FOWNER"
            "CAP_FSETID"
            "CAP_KILL"
            "CAP_MKNOD"
            "CAP_NET_ADMIN"
            "CAP_NET_BIND_SERVICE"
            "CAP_NET_RAW"
            "CAP_SETGID"
            "CAP_SETPCAP"
            "CAP_SETUID"
            "CAP_SYS_ADMIN"
            "CAP_SYS_CHROOT"
            "CAP_SYS_PTRACE"
            "CAP_SYS_RESOURCE"
          ];
          SupplementaryGroups = lib.mkIf usesKvm [ "kvm" ];
          RestrictAddressFamilies = [
            "AF_UNIX"
            "AF_INET"
            "AF_INET6"
            # Interfaces, addresses, firewall.
            "AF_NETLINK"
            # CNI plugins announce the addresses that they give.
            "AF_PACKET"
            "AF_VSOCK"
          ];
          SystemCallFilter = [ "~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap" ];
        };
    };

    # tap devices.
    boot.kernelModules = lib.mkIf hasMachines [ "tun" ];
    boot.kernel.sysctl = lib.mkIf cfg.bridge.enable { "net.ipv4.ip_forward" = lib.mkDefault 1; };

    networking = lib.mkMerge [
      { firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ metricsPort ]; }
      (lib.mkIf hasOwnBridge {
        # The node refuses there what is not allowed, before any other rule: 0020-bridge.md.
        firewall.trustedInterfaces = [ bridge ];
        firewall.extraForwardRules = lib.mkIf config.networking.firewall.filterForward ''
          iifname "${bridge}" accept
          oifname "${bridge}" ct status dnat accept
        '';
        dhcpcd.denyInterfaces = [
          bridge
          # The ends of workloads at it, as the CNI plugin names them.
          "veth*"
        ];
        networkmanager.unmanaged = [ "interface-name:${bridge}" ];
      })
    ];
  };
}
