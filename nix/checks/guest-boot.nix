# A machine without hardware acceleration boots the guest under QEMU and runs a program of nixpkgs in it, by this repository's
# own runtime.
{
  callPackage,
  closureInfo,
  guest-image,
  hello,
  lib,
  testers,
}:
let
  sources = callPackage ../sources.nix { } [
    ./run-in-guest.ts
    ../../packages/errors
    ../../packages/guest
    ../../packages/nix
    ../../packages/sandbox
  ];
  closure = closureInfo { rootPaths = [ hello ]; };
in
testers.runNixOSTest {
  name = "nex-guest-boot";

  nodes.machine =
    { pkgs, ... }:
    {
      virtualisation = {
        cores = 2;
        memorySize = 2048;
        # What the test script names, should the store be an image.
        additionalPaths = [
          closure
          guest-image
          sources
        ];
      };
      environment.systemPackages = [
        pkgs.erofs-utils
        pkgs.iproute2
        pkgs.nodejs-slim_24
        pkgs.qemu
        pkgs.util-linux
      ];
    };

  testScript = ''
    machine.wait_for_unit("multi-user.target")
    said = machine.succeed(
        "node --conditions=nexsrc ${sources}/nix/checks/run-in-guest.ts"
        " ${guest-image} ${closure}/store-paths ${lib.getExe hello}"
    )
    assert "Hello, world!" in said, said
  '';
}
