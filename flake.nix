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
      # Daemons of a machine. nix/README.md says how to use them.
      nixosModules.nex-node.imports = [ ./nix/modules/nex-node.nix ];
      nixosModules.nex-cache.imports = [ ./nix/modules/nex-cache.nix ];
      nixosConfigurations = {
        guest = guests.x86_64-linux;
        guest-aarch64 = guests.aarch64-linux;
      };

      packages = eachSystem (
        pkgs:
        let
          own = import ./nix/overlay.nix pkgs pkgs;
        in
        {
          default = own.nex-nix;
          echo-service = own.nex-echo-service;
          guest-agent = own.nex-guest-agent;
          guest-image = guests.${pkgs.stdenv.hostPlatform.system}.config.system.build.guestImage;
          nex = own.nex-nix;

          # Its Nexfile: nex cache push .#echo-workload && nex workload start --nexfile result
          echo-workload = self.lib.mkNexWorkload { package = own.nex-echo-service; };
        }
      );

      apps = eachSystem (pkgs: {
        default = {
          type = "app";
          program = lib.getExe self.packages.${pkgs.stdenv.hostPlatform.system}.nex;
          meta.description = "The command nex";
        };
      });

      overlays.default = import ./nix/overlay.nix;

      # Of a package of any nixpkgs; what else can be set is in nix/README.md.
      lib.mkNexWorkload =
        settings:
        import ./nix/lib/mk-nex-workload.nix {
          inherit lib;
          inherit (nixpkgs.legacyPackages.${settings.package.system or (lib.head systems)}) writeText;
        } settings;

      devShells = eachSystem (pkgs: {
        default = pkgs.callPackage ./nix/dev-shell.nix { };
      });

      checks = eachSystem (
        pkgs:
        let
          inherit (pkgs.stdenv) hostPlatform;
          packages = self.packages.${hostPlatform.system};
          inherit (packages) guest-image;
        in
        {
          inherit guest-image;
          inherit (packages) echo-workload nex;
          dev-shell = self.devShells.${hostPlatform.system}.default;
          format = pkgs.callPackage ./nix/checks/format.nix { };
          modules = pkgs.callPackage ./nix/checks/modules { };
          nex-node = pkgs.callPackage ./nix/checks/nex-node.nix { inherit (packages) nex; };
        }
        # QEMU's microvm machine is an x86 one.
        // lib.optionalAttrs hostPlatform.isx86_64 {
          guest-boot = pkgs.callPackage ./nix/checks/guest-boot.nix { inherit guest-image; };
        }
      );

      formatter = eachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
