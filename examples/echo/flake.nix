{
  description = "The echo service: a NATS micro service that answers with what it was sent";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  # The bundle is not under version control: `npm run build` makes it, and a `path:` reference to this folder sees it.
  outputs =
    { self, nixpkgs }:
    let
      package =
        system:
        import ./nix/echo.nix {
          inherit system;
          nodejs = nixpkgs.legacyPackages.${system}.nodejs-slim_24;
          bundle = builtins.path {
            name = "echo.cjs";
            path = ./dist/echo.cjs;
          };
        };
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
    in
    {
      packages = builtins.listToAttrs (
        map (name: {
          inherit name;
          value.default = package name;
        }) systems
      );
    };
}
