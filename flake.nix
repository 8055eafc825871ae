{
  description = "A NATS execution engine whose unit of deployment is a Nix store path";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      eachSystem = outputs: lib.genAttrs systems (system: outputs nixpkgs.legacyPackages.${system});
      guests = lib.genAttrs systems (
        system:
        lib.nixosSystem {
          modules = [
            self.nixosModules.guest
            { nixpkgs.hostPlatform = system; }
          ];
        }
      );
    in
    {
      # The guest of the microvm sandbox. nix/README.md says how to add to it.
      nixosModules.guest.imports = [ ./nix/guest.nix ];
      nixosConfigurations = {
        guest = guests.x86_64-linux;
        guest-aarch64 = guests.aarch64-linux;
      };

      packages = eachSystem (pkgs: {
        guest-agent = pkgs.callPackage ./nix/packages/guest-agent.nix { };
        guest-image = guests.${pkgs.stdenv.hostPlatform.system}.config.system.build.guestImage;
      });

      checks = eachSystem (
        pkgs:
        let
          inherit (pkgs.stdenv) hostPlatform;
          inherit (self.packages.${hostPlatform.system}) guest-image;
        in
        {
          inherit guest-image;
          format = pkgs.callPackage ./nix/checks/format.nix { };
        }
        # QEMU's microvm machine is an x86 one.
        // lib.optionalAttrs hostPlatform.isx86_64 {
          guest-boot = pkgs.callPackage ./nix/checks/guest-boot.nix { inherit guest-image; };
        }
      );

      formatter = eachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
