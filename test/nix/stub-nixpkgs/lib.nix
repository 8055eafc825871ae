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
    inherit (builtins)
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      elem
      filter
      foldl'
      genList
      groupBy
      head
      length
      replaceStrings
      sort
      stringLength
      ;
    concatStrings = builtins.concatStringsSep "";
    concatMapStringsSep =
      between: text: list:
      builtins.concatStringsSep between (map text list);
    imap0 = f: list: genList (at: f at (builtins.elemAt list at)) (builtins.length list);
    last = list: builtins.elemAt list (builtins.length list - 1);
    unique = builtins.foldl' (kept: value: if elem value kept then kept else kept ++ [ value ]) [ ];
    max = one: other: if one > other then one else other;
    optionalString = condition: text: if condition then text else "";
    filterAttrs =
      wanted: set: builtins.removeAttrs set (filter (name: !(wanted name set.${name})) (attrNames set));
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    hasInfix = infix: text: builtins.length (self.splitString infix text) > 1;
    splitString = separator: text: filter isString (builtins.split (self.escapeRegex separator) text);
    escapeRegex = builtins.replaceStrings [ "." ] [ "\\." ];
    isDerivation = value: isAttrs value && value.type or "" == "derivation";
    getName = package: (builtins.parseDrvName package).name;
    getLib = package: package;
    makeBinPath = packages: builtins.concatStringsSep ":" (map (package: "${package}/bin") packages);
    strings.sanitizeDerivationName = builtins.replaceStrings [ " " "/" ] [ "-" "-" ];
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
            # Whether anything below a folder is in.
            holds =
              folder:
              let
                entries = removeAttrs (builtins.readDir folder) [
                  "node_modules"
                  "dist"
                  ".git"
                  ".data"
                ];
                isIn =
                  name:
                  if entries.${name} == "directory" then holds "${folder}/${name}" else fileset "${folder}/${name}";
              in
              builtins.any isIn (attrNames entries);
            kept = builtins.path {
              name = "source";
              path = root;
              filter = path: kind: if kind == "directory" then holds path else fileset path;
            };
          in
          "${kept}";
      };
  };
  lib = self // import ./module-system.nix lib;
in
lib
