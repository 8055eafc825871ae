# The echo service of examples/echo, with all that it needs of npm in one file. The package is the one that the example's own
# flake makes.
{
  callPackage,
  esbuild,
  lib,
  nodejs-slim_24,
  runCommand,
  stdenv,
}:
let
  inherit (lib.importJSON ../../examples/echo/package.json) version description;
  dependencies = callPackage ./npm-dependencies.nix { } {
    name = "echo-service-dependencies";
    parts = [ "examples/echo" ];
  };
  sources = callPackage ../sources.nix { } (map (folder: ../.. + "/${folder}") dependencies.folders);
  # The same as examples/echo/bundle.ts, byte for byte.
  bundle = runCommand "echo-service-bundle" { nativeBuildInputs = [ esbuild ]; } ''
    cp --recursive --no-preserve=mode ${sources} sources
    ln --symbolic ${dependencies.nodeModules}/node_modules/* sources/node_modules/
    mkdir "$out"
    cd sources/examples/echo
    esbuild src/echo.ts --outfile="$out/echo.cjs" --bundle --platform=node --target=node24 --format=cjs
  '';
in
import ../../examples/echo/nix/echo.nix {
  inherit (stdenv.hostPlatform) system;
  nodejs = nodejs-slim_24;
  bundle = "${bundle}/echo.cjs";
}
// {
  pname = "echo";
  inherit version;
  meta = {
    inherit description;
    license = lib.licenses.mit;
    mainProgram = "echo";
  };
}
