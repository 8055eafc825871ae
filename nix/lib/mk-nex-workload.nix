# Turns a package into a Nexfile: a file that `nex workload start --nexfile` takes, and whose closure is that of the workload.
# README.md of the folder above says what may be set.
{ lib, writeText }:
settings:
let
  checkJson = import ./check-json.nix { inherit lib; };
  schema = lib.importJSON ./nix-start-request.json;

  text.type = "string";
  texts = {
    type = "object";
    patternProperties.any = text;
  };
  # Of the Nexfile itself.
  ownSchema = {
    name = text // {
      minLength = 1;
    };
    description = text;
    lifecycle.anyOf = map (const: { inherit const; }) lifecycles;
    tags = texts;
    environment = texts;
    metadata = {
      type = "object";
    };
  };
  lifecycles = [
    "service"
    "job"
    "function"
  ];
  # The package says what to run. What is in clear or sealed on the wire is for `nex` to decide: here, a value is known to
  # everyone who can read the store.
  requestSchema = removeAttrs schema.properties [
    "store_path"
    "environment"
    "encrypted_environment"
  ];

  isPackage = lib.isDerivation (settings.package or null);
  inherit (settings) package;
  name = settings.name or package.pname or (lib.getName package.name);
  lifecycle = settings.lifecycle or "service";

  request = {
    store_path = "${lib.getBin package}";
  }
  // lib.optionalAttrs (package ? meta.mainProgram) { program = "bin/${package.meta.mainProgram}"; }
  // builtins.intersectAttrs requestSchema settings;

  nexfile = {
    inherit name lifecycle;
    type = "nix";
    start_request = request;
  }
  // lib.optionalAttrs (package ? meta.description) { inherit (package.meta) description; }
  // builtins.intersectAttrs ownSchema settings;

  # As the node would say, but before anything is sent.
  checks = request.health or { };
  rules = [
    {
      when = lifecycle == "function" && request.triggers or [ ] == [ ];
      says = "triggers is missing: nothing else invokes a function";
    }
    {
      when = lifecycle != "function" && (request ? triggers || request ? function);
      says = "triggers and function are for the lifecycle function alone, not for a ${lifecycle}";
    }
    {
      when = lifecycle == "function" && request ? expose_ports;
      says = "expose_ports are for services and jobs, not for a function";
    }
    {
      when = lifecycle == "job" && request.restart.policy or null == "always";
      says = "restart.policy of a job is \"on-failure\" or \"never\"";
    }
    {
      when = lifecycle != "service" && request ? health;
      says = "health is checked of services alone, not of a ${lifecycle}";
    }
    {
      when =
        request ? health
        &&
          lib.length (
            lib.attrNames (
              builtins.intersectAttrs {
                nats = null;
                tcp = null;
                http = null;
                exec = null;
              } checks
            )
          ) != 1;
      says = "health must have one of nats, tcp, http and exec";
    }
  ];

  fields = {
    type = "object";
    properties = ownSchema // requestSchema;
  };
  problems = checkJson fields (removeAttrs settings [ "package" ]);
  # Of a request with a field that is no set, nothing more can be asked.
  broken =
    if problems != [ ] then problems else map (rule: rule.says) (lib.filter (rule: rule.when) rules);
in
if !isPackage then
  throw "Cannot make a Nexfile: package is missing, expected the package to run"
else if broken != [ ] then
  throw "Cannot make a Nexfile of \"${package.name}\": ${lib.concatStringsSep "; " broken}"
else
  writeText "${lib.strings.sanitizeDerivationName (toString name)}.nexfile.json" (
    builtins.toJSON nexfile
  )
  // {
    inherit nexfile;
  }
