# What every daemon of this project is told of its connection and of its log, and which of it is secret.
{ lib }:
let
  inherit (lib) types;
  # Left out of the configuration file when null: defaults are the command's own.
  option =
    type: description:
    lib.mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
  # Of this machine, or of the store: what a path of the Nix language, or a package, is by then.
  path =
    description:
    option types.path description
    // {
      apply = value: if value == null then null else "${value}";
    };
  choice = description: values: option (types.enum values) description;
in
{
  inherit choice option path;

  # Keys of the configuration file.
  settings = {
    namespace = option types.str "Namespace to act in.";
    timeout = option types.str "How long to wait for the other side, such as `5s`.";
    json = option types.bool "Log lines as JSON.";
    debug = option types.bool "Log stack traces and debug lines.";
    nats = {
      servers = option (types.listOf types.str) "NATS servers, as `nats://host:4222`.";
      user = option types.str "User name. Its password belongs into the credential `context`.";
      tlscert = path "TLS certificate; its key is the credential `nats_tlskey`.";
      tlsca = path "Certificates of authorities.";
      tlsfirst = option types.bool "TLS before the server says anything.";
      jsdomain = option types.str "JetStream domain.";
      conn_name = option types.str "Name of the connection.";
    };
    logger = {
      level = choice "Least level of log lines." [
        "fatal"
        "error"
        "warn"
        "info"
        "debug"
        "trace"
      ];
      target = option types.str "Where log lines go: `std`, `file`, or both.";
      timefmt = choice "Time of log lines." [
        "DateTime"
        "TimeOnly"
        "DateOnly"
        "Stamp"
        "RFC822"
        "RFC3339"
      ];
    };
  };

  # Options of the command that take a file, or a natscli context, with a secret.
  credentials = {
    context = {
      flag = "--context";
      isContext = true;
      description = "natscli context, as JSON: where to connect and as whom. It hides the settings of `nats`.";
    };
    nats_creds_file = {
      flag = "--nats.creds-file";
      description = "Credentials file to connect to NATS with.";
    };
    nats_nkey = {
      flag = "--nats.nkey";
      description = "Seed, `SU…`, of the user's nkey to connect to NATS with.";
    };
    nats_tlskey = {
      flag = "--nats.tlskey";
      description = "Key of the certificate `nats.tlscert`.";
    };
  };
}
