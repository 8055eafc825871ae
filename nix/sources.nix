# Parts of this repository as Node runs them from source: their files at their places, and a node_modules folder that leads
# to the packages among them. Only what is named is in it, so that nothing is built again because something else has changed.
{ lib, runCommand }:
paths:
let
  wanted = lib.fileset.fileFilter (
    file:
    file.hasExt "json" || file.hasExt "js" || (file.hasExt "ts" && !lib.hasSuffix ".test.ts" file.name)
  ) ../.;
in
runCommand "nex-sources"
  {
    files = lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.intersection wanted (lib.fileset.unions paths);
    };
  }
  ''
    cp --recursive --no-preserve=mode "$files" "$out"
    mkdir --parents "$out/node_modules/@nex-nix"
    for package in "$out"/packages/*; do
      ln --symbolic "../../packages/''${package##*/}" "$out/node_modules/@nex-nix/"
    done
  ''
