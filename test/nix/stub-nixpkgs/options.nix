# The options of NixOS that the guest sets or reads, as NixOS 26.05 declares them; and what a system is built of.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  option = type: lib.mkOption { inherit type; };
  bool = option lib.types.bool;
  str = option lib.types.str;
  list = option (lib.types.listOf lib.types.raw) // {
    default = [ ];
  };
  set = option (lib.types.attrsOf lib.types.raw) // {
    default = { };
  };
  fixed = default: option lib.types.raw // { inherit default; };
in
{
  options = {
    boot = {
      bcache.enable = bool;
      blacklistedKernelModules = list;
      initrd = {
        includeDefaultModules = bool;
        kernelModules = list;
        systemd.enable = bool;
        systemd.tpm2.enable = bool;
      };
      kernelPackages = option lib.types.raw;
      kernelParams = list;
      kexec.enable = bool;
      loader.grub.enable = bool;
      swraid.enable = bool;
    };
    console.enable = bool;
    documentation.enable = bool;
    environment = {
      corePackages = list;
      defaultPackages = list;
    };
    fileSystems = set;
    fonts.fontconfig.enable = bool;
    i18n.defaultLocale = str;
    i18n.supportedLocales = list;
    networking = {
      dhcpcd.enable = bool;
      firewall.enable = bool;
      hostName = str;
      resolvconf.enable = bool;
      useDHCP = bool;
      useNetworkd = bool;
      usePredictableInterfaceNames = bool;
    };
    nix.enable = bool;
    nixpkgs = {
      flake.setFlakeRegistry = bool;
      flake.setNixPath = bool;
      hostPlatform = str;
    };
    powerManagement.enable = bool;
    programs.fuse.enable = bool;
    programs.nano.enable = bool;
    security.enableWrappers = bool;
    security.sudo.enable = bool;
    services = {
      journald.storage = str;
      lvm.enable = bool;
      nscd.enable = bool;
      timesyncd.enable = bool;
      userborn.enable = bool;
    };
    system = {
      boot.loader.initrdFile = fixed "initrd";
      boot.loader.kernelFile = fixed "Image";
      build = set;
      etc.overlay.enable = bool;
      nixos.release = fixed "26.05";
      nssModules = list;
      stateVersion = str;
      switch.enable = bool;
    };
    systemd = {
      coredump.enable = bool;
      generators = set;
      oomd.enable = bool;
      package = fixed pkgs.systemd;
      services = set;
      shutdownRamfs.enable = bool;
      sockets = set;
      tpm2.enable = bool;
    };
    users = {
      allowNoPasswordLogin = bool;
      groups = set;
      mutableUsers = bool;
      users = set;
    };
  };

  config = {
    boot.kernelParams = [
      "loglevel=4"
      "root=fstab"
    ];
    system.build = {
      initialRamdisk = pkgs.runCommand "initrd-linux" { } ''
        mkdir "$out" && echo initrd >"$out/initrd"
      '';
      # Names what the real one has in its closure: the kernel, the initrd, and what its units start.
      toplevel =
        pkgs.runCommand "nixos-system-guest"
          {
            kernel = config.boot.kernelPackages.kernel;
            initrd = config.system.build.initialRamdisk;
            units = builtins.toJSON { inherit (config.systemd) services sockets; };
          }
          ''
            mkdir "$out" && ln -s "$kernel" "$out/kernel" && ln -s "$initrd/initrd" "$out/initrd" && printf %s "$units" >"$out/units.json"
            printf '#!/bin/sh\n' >"$out/init" && chmod 0555 "$out/init"
          '';
    };
  };
}
