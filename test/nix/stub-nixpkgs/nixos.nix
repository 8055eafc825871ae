# Evaluates modules of NixOS, with the packages for the system that they name.
nixpkgs:
let
  inherit (nixpkgs) lib;
  evaluate =
    { modules }:
    let
      system = lib.evalModules {
        modules = [ ./options.nix ] ++ modules;
        specialArgs = {
          modulesPath = toString ./modules;
          pkgs = nixpkgs.legacyPackages.${system.config.nixpkgs.hostPlatform};
        };
      };
    in
    system
    // {
      extendModules = more: evaluate { modules = modules ++ more.modules; };
    };
in
evaluate
