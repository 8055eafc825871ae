# Evaluates the modules of this project with the module system of nixpkgs, against stubs of the options of NixOS that they use.
#
#   nix-instantiate --eval --strict --json --arg lib 'import /path/to/nixpkgs/lib' nix/checks/modules/evaluate.nix
#
# Gives what is wrong (nothing, if all is well), what each of the good cases amounts to, and the names of all settings.
{ lib }:
let
  cases = import ./cases.nix;
  inherit (lib) attrNames concatLists filter;

  # As good as a package for what the modules do with one.
  package =
    name:
    derivation {
      inherit name;
      system = "x86_64-linux";
      builder = "/bin/sh";
    }
    // {
      meta.mainProgram = name;
    };
  pkgs = {
    bash = package "bash";
    coreutils = package "coreutils";
    callPackage = _: _: package "nex";
    formats.json = _: {
      generate = name: value: builtins.toFile name (builtins.toJSON value);
    };
    linkFarm =
      name: entries:
      builtins.toFile name (
        lib.concatStringsSep "\n" (map (entry: "${entry.name} ${entry.path}") entries)
      );
  };

  evaluate =
    settings:
    (lib.evalModules {
      specialArgs = { inherit pkgs; };
      modules = [
        ./stubs.nix
        ../../modules/nex-node.nix
        ../../modules/nex-cache.nix
        settings
      ];
    }).config;
  messages = config: map (one: one.message) (filter (one: !one.assertion) config.assertions);

  # All that a system would be made of; the options of this project only through that.
  outcome =
    settings:
    let
      config = evaluate settings;
    in
    {
      inherit (config)
        boot
        networking
        nix
        warnings
        ;
      inherit (config.systemd) services;
      refused = messages config;
    };
  works = value: (builtins.tryEval (builtins.deepSeq value true)).success;

  good = builtins.mapAttrs (_: outcome) cases.good;
  wrong =
    concatLists (
      map (
        name:
        if !works good.${name} then
          [ "${name}: cannot be evaluated" ]
        else
          map (message: "${name}: ${message}") good.${name}.refused
      ) (attrNames good)
    )
    ++ filter (problem: problem != null) (
      map (
        words:
        let
          said = (outcome cases.refused.${words}).refused;
        in
        if lib.length said == 1 && lib.hasInfix words (lib.head said) then
          null
        else
          "should be refused with \"${words}\" alone, and is with: ${builtins.toJSON said}"
      ) (attrNames cases.refused)
    )
    ++ map (name: "should be rejected: ${name}") (
      filter (name: works (outcome cases.rejected.${name})) (attrNames cases.rejected)
    );

  node = import ../../modules/node-settings.nix { inherit lib; };
in
{
  inherit good wrong;
  settings = builtins.mapAttrs (
    _: value: if value ? _type then null else attrNames value
  ) node.settings;
  credentials = builtins.mapAttrs (_: { flag, ... }: flag) node.credentials;
}
