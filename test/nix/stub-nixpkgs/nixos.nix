# Evaluates modules of NixOS: what they define is merged per option, and a definition of an option that is not declared is refused.
nixpkgs:
let
  evalModules = import ./nixos.nix nixpkgs;
in
{ modules }:
let
  inherit (nixpkgs) lib;
  inherit (builtins)
    attrNames
    concatMap
    filter
    foldl'
    head
    isAttrs
    isFunction
    length
    ;

  system = result.config.nixpkgs.hostPlatform;
  pkgs = nixpkgs.legacyPackages.${system};
  arguments = {
    inherit lib pkgs;
    inherit (result) config;
    modulesPath = toString ./modules;
  };

  # A module and all that it imports.
  collect =
    module:
    let
      value = if isFunction module || isAttrs module then module else import module;
      body = if isFunction value then value arguments else value;
      plain = !(body ? options || body ? config || body ? imports);
    in
    concatMap collect (body.imports or [ ])
    ++ [
      {
        options = body.options or { };
        config = if plain then body else body.config or { };
      }
    ];
  all = concatMap collect ([ (import ./options.nix lib) ] ++ modules);

  isOption = value: value._type or "" == "option";
  isLeaf = value: !isAttrs value || value ? _type || value.type or "" == "derivation";
  merge = foldl' (
    one: other:
    one
    // builtins.mapAttrs (
      name: value:
      if one ? ${name} && !isLeaf value then
        merge [
          one.${name}
          value
        ]
      else
        value
    ) other
  ) { };
  options = merge (map (module: module.options) all);

  evaluate =
    path: declared: definitions:
    if isOption declared then
      value path declared definitions
    else
      let
        known = attrNames declared;
        foreign = filter (name: !(builtins.elem name known)) (concatMap attrNames definitions);
      in
      if foreign != [ ] then
        throw "The option `${lib.concatStringsSep "." (path ++ [ (head foreign) ])}' does not exist"
      else
        builtins.mapAttrs (
          name: inner:
          evaluate (path ++ [ name ]) inner (
            concatMap (of: lib.optional (of ? ${name}) of.${name}) definitions
          )
        ) declared;

  value =
    path: option: definitions:
    let
      given = map (of: if of._type or "" == "override" then of else lib.mkOverride 100 of) (
        definitions ++ lib.optional (option ? default) (lib.mkOverride 1500 option.default)
      );
      strongest = foldl' (least: of: if of.priority < least then of.priority else least) 10000 given;
      chosen = map (of: of.content) (filter (of: of.priority == strongest) given);
      name = lib.concatStringsSep "." path;
      wrong = filter (of: !option.type.check of) chosen;
    in
    if chosen == [ ] then
      throw "The option `${name}' is used but not defined"
    else if wrong != [ ] then
      throw "A definition for option `${name}' is not of type `${option.type.name}'"
    else if option.type ? merge then
      option.type.merge chosen
    else if length chosen != 1 then
      throw "The option `${name}' is defined more than once"
    else
      head chosen;

  result = {
    extendModules = more: evalModules { modules = modules ++ more.modules; };
    config = evaluate [ ] options (map (module: module.config) all);
  };
in
result
