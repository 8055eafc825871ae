# The functions of nixpkgs' lib that are used, with what is used of them.
let
  inherit (builtins)
    attrNames
    concatLists
    elem
    filter
    fromJSON
    genList
    isAttrs
    isBool
    isInt
    isList
    isPath
    isString
    listToAttrs
    readFile
    stringLength
    substring
    toString
    ;
  self = {
    inherit (builtins) concatStringsSep;
    genAttrs =
      names: value:
      listToAttrs (
        map (name: {
          inherit name;
          value = value name;
        }) names
      );
    mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
    nameValuePair = name: value: { inherit name value; };
    optional = condition: value: if condition then [ value ] else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    stringToCharacters = text: genList (at: substring at 1 text) (stringLength text);
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    hasSuffix =
      suffix: text:
      let
        start = stringLength text - stringLength suffix;
      in
      start >= 0 && substring start (-1) text == suffix;
    importJSON = file: fromJSON (readFile file);
    getBin = package: package;
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    licenses.mit = { };
    platforms.linux = [ ];

    # Modules.
    mkOption = option: option // { _type = "option"; };
    mkOverride = priority: content: {
      _type = "override";
      inherit priority content;
    };
    mkForce = self.mkOverride 50;
    mkDefault = self.mkOverride 1000;
    literalMD = text: text;
    types =
      let
        type = name: check: { inherit name check; };
        # Merges to all of them.
        list = type "list" isList // {
          merge = concatLists;
        };
        set = type "set" isAttrs // {
          merge = builtins.foldl' (one: other: one // other) { };
        };
      in
      {
        inherit list set;
        bool = type "bool" isBool;
        str = type "str" isString;
        package = type "package" (value: isAttrs value && value.type or "" == "derivation");
        raw = type "raw" (_: true);
        nullOr = of: type "null or ${of.name}" (value: value == null || of.check value);
        ints.between = low: high: type "int" (value: isInt value && low <= value && value <= high);
      };

    # A set of files is what says of a path whether it is in.
    fileset =
      let
        fileSet =
          of: if isPath of then path: path == toString of || self.hasPrefix "${toString of}/" path else of;
      in
      {
        fileFilter =
          predicate: root: path:
          fileSet root path
          && predicate {
            name = baseNameOf path;
            hasExt = extension: self.hasSuffix ".${extension}" path;
          };
        unions = sets: path: builtins.any (set: fileSet set path) sets;
        intersection =
          one: other: path:
          fileSet one path && fileSet other path;
        toSource =
          { root, fileset }:
          let
            kept = builtins.path {
              name = "source";
              path = root;
              filter =
                path: kind:
                let
                  inner =
                    dir:
                    concatLists (
                      map (name: entry "${dir}/${name}" (builtins.readDir dir).${name}) (attrNames (builtins.readDir dir))
                    );
                  entry =
                    at: type:
                    if
                      elem (baseNameOf at) [
                        "node_modules"
                        "dist"
                        ".git"
                        ".data"
                      ]
                    then
                      [ ]
                    else if type == "directory" then
                      inner at
                    else
                      [ at ];
                in
                if kind == "directory" then filter fileset (entry path kind) != [ ] else fileset path;
            };
          in
          "${kept}";
      };
  };
in
self
