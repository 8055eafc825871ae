# Checks a value by a JSON Schema, as far as start requests use it. Gives what is wrong, a sentence each; none when it fits.
{ lib }:
let
  inherit (builtins)
    isAttrs
    isFloat
    isFunction
    isInt
    isList
    isString
    match
    stringLength
    toJSON
    ;

  types = {
    array = {
      is = isList;
      called = "a list";
    };
    integer = {
      is = isInt;
      called = "a whole number";
    };
    number = {
      is = value: isInt value || isFloat value;
      called = "a number";
    };
    object = {
      is = value: isAttrs value && !lib.isDerivation value;
      called = "a set";
    };
    string = {
      is = isString;
      called = "a string";
    };
  };

  show =
    value:
    if isFunction value then
      "a function"
    else if lib.isDerivation value then
      "a package"
    else
      toJSON value;

  # What a bound of a schema says of a value that is of its type; null when it keeps to it.
  bounds = {
    maximum = most: value: if value <= most then null else "at most ${toString most}";
    minimum = least: value: if value >= least then null else "at least ${toString least}";
    maxItems =
      most: value: if lib.length value <= most then null else "at most ${toString most} entries";
    minItems =
      least: value: if lib.length value >= least then null else "at least ${toString least} entries";
    minLength =
      least: value: if stringLength value >= least then null else "at least ${toString least} characters";
    pattern = shape: value: if match shape value != null then null else "a string like ${shape}";
    uniqueItems = _: value: if lib.unique value == value then null else "no entry twice";
  };

  check =
    schema: path: value:
    let
      wrong = expected: "${path} is ${show value}, expected ${expected}${example}";
      example = lib.optionalString (schema ? description) " (${schema.description})";
      type = types.${schema.type};
      broken = lib.filter (bound: bound != null) (
        lib.mapAttrsToList (name: bound: bounds.${name} bound value) (builtins.intersectAttrs bounds schema)
      );
    in
    if schema ? anyOf then
      # All are one value each.
      lib.optional (!lib.elem value (map (one: one.const) schema.anyOf)) (
        wrong "one of ${lib.concatMapStringsSep ", " (one: one.const) schema.anyOf}"
      )
    else if !type.is value then
      [ (wrong type.called) ]
    else
      map wrong broken ++ inner.${schema.type} schema path value;

  inner = {
    array =
      schema: path: value:
      lib.concatLists (lib.imap0 (at: check schema.items "${path}[${toString at}]") value);

    object =
      schema: path: value:
      let
        properties = schema.properties or { };
        # There is one at most: of any name.
        others = lib.attrValues (schema.patternProperties or { });
        place = name: if path == "" then name else "${path}.${name}";
        entry =
          name: given:
          if properties ? ${name} then
            check properties.${name} (place name) given
          else if others != [ ] then
            check (lib.head others) (place name) given
          else if !(schema ? properties) then
            [ ]
          else
            [
              "${place name} is not known, expected one of ${lib.concatStringsSep ", " (lib.attrNames properties)}"
            ];
        missing = lib.filter (name: !(value ? ${name})) (schema.required or [ ]);
      in
      map (name: "${place name} is missing") missing ++ lib.concatLists (lib.mapAttrsToList entry value);

    integer =
      _: _: _:
      [ ];
    number =
      _: _: _:
      [ ];
    string =
      _: _: _:
      [ ];
  };
in
schema: check schema ""
