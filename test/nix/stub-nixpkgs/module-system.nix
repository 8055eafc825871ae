# As much of the module system of nixpkgs' lib as the modules of this repository use: options with nested types, conditions,
# priorities. A definition of an option that is not declared, or of another type, is refused.
lib:
let
  inherit (builtins)
    all
    any
    attrNames
    concatLists
    concatMap
    elem
    filter
    foldl'
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isPath
    isString
    length
    mapAttrs
    match
    ;

  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };

  # In the words of the real one.
  refuse = path: why: throw "The option `${lib.concatStringsSep "." path}' ${why}";
  isMarked = kind: value: isAttrs value && value._type or "" == kind;
  isOption = isMarked "option";

  # A type says what it takes, and what several definitions of it are together.
  simple = name: check: {
    inherit name check;
    merge =
      path: values:
      if length values == 1 || all (value: value == head values) values then
        head values
      else
        refuse path "is defined more than once";
  };
  oneOf = of: {
    name = lib.concatStringsSep " or " (map (type: type.name) of);
    check = value: any (type: type.check value) of;
    merge = path: values: (head (filter (type: all type.check values) of)).merge path values;
  };
  types = rec {
    inherit oneOf;
    bool = simple "true or false" isBool;
    int = simple "a whole number" isInt;
    float = simple "a number" isFloat;
    str = simple "text" isString;
    path = simple "a path" (
      value:
      isPath value || lib.isDerivation value || (isString value && builtins.substring 0 1 value == "/")
    );
    package = simple "a package" lib.isDerivation;
    port = ints.between 0 65535;
    enum = values: simple "one of ${toString values}" (value: elem value values);
    strMatching =
      pattern: simple "text like ${pattern}" (value: isString value && match pattern value != null);
    ints = {
      between =
        low: high:
        simple "a whole number from ${toString low} to ${toString high}" (
          value: isInt value && low <= value && value <= high
        );
      positive = simple "a whole number above 0" (value: isInt value && value > 0);
      unsigned = simple "a whole number, 0 or above" (value: isInt value && value >= 0);
    };
    lines = str // {
      merge = _: lib.concatStringsSep "\n";
    };
    raw = simple "anything" (_: true);
    unspecified = raw;
    either =
      one: other:
      oneOf [
        one
        other
      ];
    nullOr =
      of:
      oneOf [
        (simple "null" (value: value == null))
        of
      ];
    listOf = of: {
      name = "list";
      check = isList;
      merge = path: values: map (item: mergeAs of path [ item ]) (concatLists values);
    };
    attrsOf = of: {
      name = "set";
      check = isAttrs;
      merge =
        path: values:
        let
          # What is defined under a condition that is false is not there.
          isDefined = name: concatMap definitions (valuesAt name values) != [ ];
        in
        lib.genAttrs (filter isDefined (lib.unique (concatMap attrNames values))) (
          name: value (path ++ [ name ]) { type = of; } (valuesAt name values)
        );
    };
    submodule =
      { options }:
      {
        name = "set";
        check = isAttrs;
        merge = path: evaluate path options;
      };
  };

  mergeAs =
    type: path: values:
    let
      wrong = filter (given: !type.check given) values;
    in
    if wrong != [ ] then refuse path "is not of type ${type.name}" else type.merge path values;

  # What holds of a definition: conditions that are true, the items of merges, and how strong each is.
  definitions =
    given:
    if isMarked "if" given then
      if given.condition then definitions given.content else [ ]
    else if isMarked "merge" given then
      concatMap definitions given.contents
    else if isMarked "override" given then
      map (one: one // { inherit (given) priority; }) (definitions given.content)
    else
      [
        {
          priority = 100;
          content = given;
        }
      ];
  # The same of a set of options, without asking what its conditions depend on: they go to each of the options.
  setsOf =
    given:
    if isMarked "if" given || isMarked "override" given then
      map (mapAttrs (_: content: given // { inherit content; })) (setsOf given.content)
    else if isMarked "merge" given then
      concatMap setsOf given.contents
    else
      [ given ];
  valuesAt = name: values: map (of: of.${name}) (filter (of: of ? ${name}) values);

  value =
    path: option: given:
    let
      all = concatMap definitions (
        given ++ lib.optional (option ? default) (mkOverride 1500 option.default)
      );
      strongest = foldl' (least: one: if one.priority < least then one.priority else least) 10000 all;
      chosen = map (one: one.content) (filter (one: one.priority == strongest) all);
    in
    if chosen == [ ] then
      refuse path "is used but not defined"
    else
      (option.apply or (result: result)) (mergeAs option.type path chosen);

  evaluate =
    path: declared: values:
    if isOption declared then
      value path declared values
    else
      let
        sets = concatMap setsOf values;
        foreign = filter (name: !(declared ? ${name})) (concatMap attrNames sets);
      in
      if foreign != [ ] then
        refuse (path ++ [ (head foreign) ]) "does not exist"
      else
        mapAttrs (name: inner: evaluate (path ++ [ name ]) inner (valuesAt name sets)) declared;

  mergeOptions = foldl' (
    one: other:
    one
    // mapAttrs (
      name: inner:
      if one ? ${name} && !isOption inner then
        mergeOptions [
          one.${name}
          inner
        ]
      else
        inner
    ) other
  ) { };

  # A module and all that it imports, in full.
  collect =
    arguments: module:
    let
      loaded = if isPath module || isString module then import module else module;
      body = if isFunction loaded then loaded arguments else loaded;
      plain = !(body ? options || body ? config || body ? imports);
    in
    concatMap (collect arguments) (body.imports or [ ])
    ++ [
      {
        options = body.options or { };
        config = removeAttrs (if plain then body else body.config or { }) [ "_module" ];
      }
    ];
in
{
  inherit mkOverride types;
  mkOption = option: option // { _type = "option"; };
  mkForce = mkOverride 50;
  mkDefault = mkOverride 1000;
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkEnableOption = what: {
    _type = "option";
    type = types.bool;
    default = false;
    description = "Whether to enable ${what}.";
  };
  literalMD = text: text;
  optionals = condition: list: if condition then list else [ ];
  inherit mapAttrs;
  filterAttrsRecursive =
    let
      recurse =
        wanted: set:
        mapAttrs (_: inner: if isAttrs inner then recurse wanted inner else inner) (
          lib.filterAttrs wanted set
        );
    in
    recurse;

  # Every module gets `specialArgs`, `config` and `lib`.
  evalModules =
    {
      modules,
      specialArgs ? { },
    }:
    let
      all = concatMap (collect (specialArgs // { inherit config lib; })) modules;
      config = evaluate [ ] (mergeOptions (map (module: module.options) all)) (
        map (module: module.config) all
      );
    in
    {
      inherit config;
    };
}
