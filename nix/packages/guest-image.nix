# The folder that a host boots a guest from: kernel, initrd, root image, and guest.json with what they are.
# `config` is that of a NixOS system with ../guest.nix in it.
#
# Nothing of what is built is read while this is evaluated: there is no import from derivation.
{
  binutils,
  callPackage,
  closureInfo,
  config,
  erofs-utils,
  lib,
  nodejs-slim_24,
  runCommand,
  stdenvNoCC,
}:
let
  inherit (config.boot.kernelPackages) kernel;
  inherit (config.system.build) initialRamdisk toplevel;
  inherit (stdenvNoCC.hostPlatform) isx86_64 system;

  sources = callPackage ../sources.nix { } [
    ../guest-image/manifest.ts
    ../../packages/errors
    ../../packages/guest
    ../../packages/nix
  ];

  facts = builtins.toJSON {
    inherit system;
    agent = config.nex.guest.package.version;
    commandLine = lib.concatStringsSep " " (
      config.boot.kernelParams ++ [ "init=${builtins.unsafeDiscardStringContext "${toplevel}"}/init" ]
    );
  };
in
runCommand "nex-guest-image"
  {
    nativeBuildInputs = [
      binutils
      erofs-utils
      nodejs-slim_24
    ];

    # The image holds what it names: references would keep all of that on the host a second time.
    __structuredAttrs = true;
    unsafeDiscardReferences.out = true;

    inherit facts;
    inherit (config.nex.guest) compression;
    # On x86-64 the ELF file, which Firecracker demands and QEMU starts without unpacking anything.
    kernelFile =
      if isx86_64 then "${kernel.dev}/vmlinux" else "${kernel}/${config.system.boot.loader.kernelFile}";
    initrdFile = "${initialRamdisk}/${config.system.boot.loader.initrdFile}";
    closure = closureInfo { rootPaths = [ toplevel ]; };
    # What the host boots from is part of the system's closure too. The kernel's modules stay.
    leftOut = [ "${initialRamdisk}" ] ++ lib.optional (kernel ? modules) "${kernel}";

    passthru = { inherit config toplevel; };
    meta = {
      description = "Guest of the microvm sandbox: kernel, initrd and a NixOS system";
      license = lib.licenses.mit;
      platforms = [
        "x86_64-linux"
        "aarch64-linux"
      ];
    };
  }
  ''
    source ${../guest-image/assemble.sh}
    node --conditions=nexsrc ${sources}/nix/guest-image/manifest.ts "$out" root-paths "$closure/registration" "$facts"
  ''
