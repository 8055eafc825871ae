# The packages of this repository beside those of nixpkgs, and mkNexWorkload with the nixpkgs that it is in.
final: prev: {
  nex-nix = final.callPackage ./packages/nex.nix { };
  nex-guest-agent = final.callPackage ./packages/guest-agent.nix { };
  nex-echo-service = final.callPackage ./packages/echo-service.nix { };
  mkNexWorkload = import ./lib/mk-nex-workload.nix { inherit (final) lib writeText; };
}
