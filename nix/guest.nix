# The NixOS guest of the `microvm` sandbox: a system that boots from one read-only disk and runs the guest agent, nothing else.
# What host and guest have agreed on is in packages/guest/README.md; ./README.md says how to build an image and how to add to it.
{
  config,
  lib,
  modulesPath,
  pkgs,
  ...
}:
let
  cfg = config.nex.guest;

  # How the agent is reached, and what ends the VM: the host chooses by a word on the kernel's command line.
  channels = {
    # A virtio-serial port (QEMU). Also what is meant when the word is missing.
    virtio = {
      condition = "!nex.channel=vsock";
      channel.port = "nex.agent";
      end = "poweroff";
    };
    # A vsock port (Firecracker), behind which the agent listens on a Unix socket.
    vsock = {
      condition = "nex.channel=vsock";
      channel.listen = "${runDir}/agent.sock";
      # Firecracker has nothing that would switch an x86-64 guest off; it ends when the guest reboots.
      end = if pkgs.stdenv.hostPlatform.isx86_64 then "reboot" else "poweroff";
    };
  };
  vsockPort = 1024;
  runDir = "/run/nex-guest";

  # What packages/guest/src/agent/guest-config.ts describes.
  agentConfig =
    name:
    { channel, end, ... }:
    pkgs.writeText "nex-guest-${name}.json" (
      builtins.toJSON {
        inherit channel end runDir;
        inherit (cfg) uid gid;
        imageStore = builtins.storeDir;
        # The disks after the root image, as many as any VMM attaches.
        slots = map (letter: "/dev/vd${letter}") (lib.stringToCharacters "bcdefghi");
        tools.mkfs = "${lib.getBin pkgs.e2fsprogs}/bin/mkfs.ext4";
      }
    );

  agentService =
    name:
    { condition, end, ... }@channel:
    lib.nameValuePair "nex-guest-agent-${name}" {
      description = "nex guest agent (${name})";
      wantedBy = [ "multi-user.target" ];
      unitConfig = {
        ConditionKernelCommandLine = condition;
        # What ran in the guest is lost with its agent: the host is to see that at once, and not a second agent that knows nothing.
        SuccessAction = "${end}-immediate";
        FailureAction = "${end}-immediate";
      };
      serviceConfig = {
        Type = "exec";
        ExecStart = "${lib.getExe cfg.package} ${agentConfig name channel}";
        Restart = "no";
        # Programs run in control groups that the agent makes below its own.
        Delegate = true;
        TasksMax = "infinity";
        LimitNOFILE = 65536;
        # A program that has used up the guest's memory is killed, not the agent; and with it nothing else of the unit.
        OOMScoreAdjust = -1000;
        OOMPolicy = "continue";
        RuntimeDirectory = baseNameOf runDir;
        RuntimeDirectoryMode = "0700";
        # The last lines of the console are in the host's error when a guest does not come up.
        StandardOutput = "journal+console";
        StandardError = "journal+console";
      };
    };
in
{
  imports = [
    "${modulesPath}/profiles/minimal.nix"
    "${modulesPath}/profiles/headless.nix"
  ];

  options.nex.guest = {
    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./packages/guest-agent.nix { };
      defaultText = lib.literalMD "the agent of the same sources as this module";
      description = "Package with the guest agent.";
    };
    uid = lib.mkOption {
      type = lib.types.ints.between 1 65533;
      default = 1000;
      description = "User that programs run as.";
    };
    gid = lib.mkOption {
      type = lib.types.ints.between 1 65533;
      default = 1000;
      description = "Group that programs run as.";
    };
    compression = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      example = "lz4hc";
      description = ''
        Compression of the root image, as `mkfs.erofs -z` takes it.
        Without it the image is larger, and a guest without hardware acceleration boots faster.
      '';
    };
  };

  config = {
    boot = {
      # The LTS kernel that Firecracker's own tests cover.
      kernelPackages = lib.mkDefault pkgs.linuxPackages_6_18;
      loader.grub.enable = false;
      initrd = {
        systemd.enable = true;
        systemd.tpm2.enable = false;
        includeDefaultModules = false;
        # Loaded by name: none of these waits for a device to be found first, and after stage 1 a guest loads nothing more.
        kernelModules = [
          "virtio_mmio"
          "virtio_pci"
          "virtio_blk"
          "virtio_console"
          "virtio_net"
          "virtio_rng"
          "vsock"
          "vmw_vsock_virtio_transport"
          "erofs"
          # Scratch disks.
          "ext4"
        ];
      };
      # With a loopback for vsock a program in the guest could speak to the agent as if it were the host.
      blacklistedKernelModules = [ "vsock_loopback" ];
      # As in the minimal guest: one that goes wrong ends, and nothing is done that nobody needs. What mitigations keep apart
      # in a guest is one program and the kernel that it has for itself.
      kernelParams = [
        "panic=-1"
        "oops=panic"
        "audit=0"
        "mitigations=off"
        "random.trust_cpu=on"
        "8250.nr_uarts=1"
        "rcupdate.rcu_expedited=1"
        "systemd.show_status=auto"
      ];
      # Storage that a guest never has.
      bcache.enable = false;
      swraid.enable = false;
      kexec.enable = false;
    };

    # NixOS' activation wants a root that it can write to; what is written is gone with the guest.
    fileSystems."/" = {
      device = "tmpfs";
      fsType = "tmpfs";
      options = [
        "mode=0755"
        "size=50%"
      ];
    };
    fileSystems."/nix/store" = {
      device = "/dev/vda";
      fsType = "erofs";
      options = [
        "ro"
        "nosuid"
        "nodev"
      ];
      neededForBoot = true;
      noCheck = true;
    };

    systemd = {
      services = lib.mapAttrs' agentService channels // {
        nex-guest-vsock = {
          description = "nex guest agent at vsock port ${toString vsockPort}";
          requires = [ "nex-guest-agent-vsock.service" ];
          after = [ "nex-guest-agent-vsock.service" ];
          serviceConfig = {
            Type = "notify";
            ExecStart = "${config.systemd.package}/lib/systemd/systemd-socket-proxyd ${channels.vsock.channel.listen}";
            OOMScoreAdjust = -1000;
          };
        };
        # Nobody logs in, and there is nowhere to dump a kernel's last words to.
        systemd-logind.enable = false;
        mount-pstore.enable = false;
      };
      sockets.nex-guest-vsock = {
        description = "vsock port of the nex guest agent";
        wantedBy = [ "sockets.target" ];
        unitConfig.ConditionKernelCommandLine = channels.vsock.condition;
        listenStreams = [ "vsock::${toString vsockPort}" ];
      };
      generators = {
        # Consoles get no login, whatever their names are; and no disk is searched for partitions.
        systemd-getty-generator = "/dev/null";
        systemd-gpt-auto-generator = "/dev/null";
      };
      tpm2.enable = false;
      coredump.enable = false;
      oomd.enable = false;
      shutdownRamfs.enable = false;
    };

    # Users and /etc are laid out by programs, not by scripts of an interpreter that the image would have to hold.
    system.etc.overlay.enable = lib.mkDefault true;
    services.userborn.enable = lib.mkDefault true;
    users = {
      mutableUsers = false;
      allowNoPasswordLogin = true;
      users.root.hashedPassword = "!";
      users.nex-workload = {
        isSystemUser = true;
        uid = cfg.uid;
        group = "nex-workload";
      };
      groups.nex-workload.gid = cfg.gid;
    };

    # The agent sets addresses, routes and names when it is told who the guest is.
    networking = {
      hostName = lib.mkDefault "nex-guest";
      useDHCP = false;
      dhcpcd.enable = false;
      useNetworkd = false;
      resolvconf.enable = false;
      firewall.enable = false;
      # One interface, which the agent takes as the kernel names it.
      usePredictableInterfaceNames = false;
    };

    # An image is replaced, never changed: no package manager, no switching, nothing for people at a terminal.
    nix.enable = false;
    nixpkgs.flake.setNixPath = false;
    nixpkgs.flake.setFlakeRegistry = false;
    system.switch.enable = false;
    system.stateVersion = lib.mkDefault config.system.nixos.release;
    console.enable = false;
    documentation.enable = false;
    environment.corePackages = lib.mkForce [ ];
    environment.defaultPackages = [ ];
    fonts.fontconfig.enable = false;
    i18n.defaultLocale = "C.UTF-8";
    i18n.supportedLocales = [ "C.UTF-8/UTF-8" ];
    powerManagement.enable = false;
    programs.fuse.enable = lib.mkDefault false;
    programs.nano.enable = false;
    security.enableWrappers = false;
    security.sudo.enable = false;
    services.journald.storage = "volatile";
    services.lvm.enable = false;
    services.nscd.enable = false;
    services.timesyncd.enable = false;
    system.nssModules = lib.mkForce [ ];

    system.build.guestImage = pkgs.callPackage ./packages/guest-image.nix {
      inherit config;
    };
  };
}
