# Every file in the Nix language of this repository is as `nix fmt` leaves it.
{
  lib,
  nixfmt,
  runCommand,
}:
let
  files = lib.fileset.toSource {
    root = ../..;
    fileset = lib.fileset.unions [
      ../../flake.nix
      (lib.fileset.fileFilter (file: file.hasExt "nix") ../.)
    ];
  };
in
runCommand "nex-format" { nativeBuildInputs = [ nixfmt ]; } ''
  find ${files} -name '*.nix' -exec nixfmt --check {} +
  touch "$out"
''
