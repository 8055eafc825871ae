# The modules take and refuse what they should, by the module system of nixpkgs. Evaluating this is the check.
{ lib, runCommand }:
let
  inherit (import ./evaluate.nix { inherit lib; }) wrong;
in
if wrong == [ ] then
  runCommand "nex-modules" { } ''
    touch "$out"
  ''
else
  throw "The modules of NixOS: ${lib.concatStringsSep "; " wrong}"
