# What this repository's flake uses of nixpkgs, in a few lines: as much as it takes to evaluate and to build its outputs where
# nixpkgs is not to be had, out of this machine's programs. It knows the options of NixOS that the guest sets, and refuses others.
{
  outputs =
    { self }:
    let
      lib = import ./lib.nix // {
        nixosSystem = import ./nixos.nix self;
      };
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (import ./pkgs.nix lib);
    };
}
