# NixOS module: the HTTP door of the cache in NATS, which Nix clients read from and write to.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.nex-cache;
  inherit (lib) mkOption types;

  daemon = import ./daemon.nix { inherit lib pkgs; };
  connection = import ./connection.nix { inherit lib; };
  inherit (connection) choice option;

  credentials = connection.credentials // {
    token_file = {
      flag = "--token-file";
      description = "Token that who writes must show, 16 characters at least; without it the cache only reads.";
    };
    tls_cert = {
      flag = "--tls-cert";
      description = "Serve HTTPS with this certificate, or chain of them, in PEM; needs `tls_key`.";
    };
    tls_key = {
      flag = "--tls-key";
      description = "The private key of the certificate, in PEM.";
    };
    service_key_file = {
      flag = "--service-key-file";
      description = "Key to sign with: it is the service of the cache as well, where no node runs.";
    };
  };
  unit = daemon.unit {
    name = "nex-cache";
    command = [
      (lib.getExe cfg.package)
      "cache"
      "serve"
      "--listen"
      "${host}:${toString cfg.port}"
    ]
    ++ whenTrue "--protect-reads" cfg.protectReads
    ++ whenSet "--priority" cfg.priority
    ++ whenSet "--compression" cfg.compression
    ++ whenSet "--max-upload" cfg.maxUpload
    ++ whenTrue "--normalise-uploads" cfg.normaliseUploads
    ++ whenSet "--jetstream-replicas" cfg.jetstreamReplicas
    ++ whenSet "--cache-storage" cfg.cacheStorage
    ++ whenSet "--cache-max-size" cfg.cacheMaxSize
    ++ lib.concatMap (whenSet "--upstream") cfg.upstreams
    ++ lib.optionals (cfg.trustedPublicKeys != [ ]) [
      "--trusted-public-keys"
      (lib.concatStringsSep " " cfg.trustedPublicKeys)
    ];
    known = credentials;
    given = cfg.credentials;
    inherit (cfg) settings;
  };

  # An address of IPv6 is in brackets where a port follows.
  host = if lib.hasInfix ":" cfg.address then "[${cfg.address}]" else cfg.address;
  isLoopback = lib.elem cfg.address [
    "127.0.0.1"
    "::1"
    "localhost"
  ];
  isEverywhere = lib.elem cfg.address [
    "0.0.0.0"
    "::"
  ];
  hasTls = cfg.credentials.tls_cert != null;
  whenSet =
    flag: value:
    lib.optionals (value != null) [
      flag
      (toString value)
    ];
  whenTrue = flag: value: lib.optional value flag;
in
{
  options.services.nex-cache = {
    enable = lib.mkEnableOption "the binary cache in NATS over HTTP, for Nix clients";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../packages/nex.nix { };
      defaultText = lib.literalMD "`nex` of the same sources as this module";
      description = "Package with the command `nex`.";
    };

    address = mkOption {
      type = types.str;
      default = "127.0.0.1";
      example = "0.0.0.0";
      description = "Address to listen on.";
    };
    port = mkOption {
      type = types.port;
      default = 8080;
      description = "Port to listen on.";
    };
    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Let other machines reach it.";
    };

    protectReads = mkOption {
      type = types.bool;
      default = false;
      description = "Who reads must show the token as well.";
    };
    priority = option types.ints.positive "The lower, the earlier clients ask it. Default: 30.";
    compression = choice "How NARs are sent. Default: `zstd`." [
      "zstd"
      "none"
    ];
    maxUpload = option types.str "How large an uploaded file may be, for example `8GiB`.";
    normaliseUploads = mkOption {
      type = types.bool;
      default = false;
      description = "Blank store hashes in what is uploaded: a rebuild then adds next to nothing.";
    };
    jetstreamReplicas = option (types.ints.between 1 5) "Copies of the cache in a cluster, where this service makes it. Default: 1.";
    cacheStorage = choice "Where JetStream keeps the cache, likewise. Default: `file`." [
      "file"
      "memory"
    ];
    cacheMaxSize = option types.str "How much the cache may hold, likewise, for example `100GiB`.";
    upstreams = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "https://cache.nixos.org" ];
      description = "Binary caches to fetch from what is missing.";
    };
    trustedPublicKeys = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Keys that sign what upstreams have, in Nix's syntax.";
    };

    settings = mkOption {
      type = types.submodule { options = connection.settings; };
      default = { };
      example.nats.servers = [ "nats://nats.example.org:4222" ];
      description = "Where it connects, and what it logs: keys of the configuration file of `nex`.";
    };
    credentials = daemon.credentialOptions credentials;

    publicKey = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "cache.example.org-1:…";
      description = ''
        Public key of the cache, as `nex cache info` and `nex cache keygen` print it. With it Nix on this machine takes
        what the cache has: it becomes a substituter.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = unit.assertions ++ [
      {
        assertion = (cfg.credentials.tls_cert == null) == (cfg.credentials.tls_key == null);
        message = "services.nex-cache.credentials: `tls_cert` and `tls_key` are needed both";
      }
      {
        assertion = !cfg.protectReads || cfg.credentials.token_file != null;
        message = "services.nex-cache.protectReads: there is no token to show, set the credential `token_file`";
      }
      {
        assertion = cfg.upstreams == [ ] || cfg.trustedPublicKeys != [ ];
        message = "services.nex-cache.upstreams: nothing of them would be taken, set `trustedPublicKeys`";
      }
      {
        assertion = cfg.publicKey == null || !cfg.protectReads;
        message = "services.nex-cache.publicKey: Nix on this machine has no token, so it cannot read a cache that has `protectReads`";
      }
      {
        assertion = cfg.publicKey == null || !hasTls;
        message = "services.nex-cache.publicKey: the certificate says by which name this cache is reached, set nix.settings.substituters yourself";
      }
      {
        assertion = cfg.port != 0 || (!cfg.openFirewall && cfg.publicKey == null);
        message = "services.nex-cache.port: nobody knows a port that is chosen at the start, set one";
      }
      {
        assertion = !cfg.openFirewall || !isLoopback;
        message = "services.nex-cache.openFirewall: other machines do not reach ${cfg.address}, set `address`";
      }
    ];
    warnings =
      lib.optional (!isLoopback && !hasTls && cfg.credentials.token_file != null)
        "services.nex-cache: the token goes over the network in clear, set the credentials `tls_cert` and `tls_key`, or serve it behind a proxy";

    systemd.services.nex-cache = {
      description = "Binary cache in NATS, over HTTP";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "network-online.target"
        "nats.service"
        # A node has the service that lets in what is pushed.
        "nex-node.service"
      ];
      inherit (unit) environment;
      # Until its server is there.
      startLimitIntervalSec = 0;
      serviceConfig = import ./hardening.nix // {
        Type = "exec";
        inherit (unit) ExecStart LoadCredential;
        Restart = "always";
        RestartSec = "2s";
        # Settings that make no sense make none the next time either.
        RestartPreventExitStatus = "2";

        # It keeps nothing on this machine. There is no MemoryDenyWriteExecute: V8 compiles at run time.
        DynamicUser = true;
        AmbientCapabilities = lib.optional (cfg.port < 1024) "CAP_NET_BIND_SERVICE";
        CapabilityBoundingSet = if cfg.port < 1024 then "CAP_NET_BIND_SERVICE" else "";
        DevicePolicy = "closed";
        PrivateDevices = true;
        PrivateTmp = true;
        # A user namespace has no rights over the network outside of it, and so none to a port below 1024.
        PrivateUsers = cfg.port >= 1024;
        ProcSubset = "pid";
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHome = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectProc = "invisible";
        ProtectSystem = "strict";
        RemoveIPC = true;
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
        ];
        RestrictNamespaces = true;
        SystemCallFilter = [
          "@system-service"
          "~@privileged @resources"
        ];
        UMask = "0077";
      };
    };

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ cfg.port ];

    nix.settings = lib.mkIf (cfg.publicKey != null) {
      substituters = [ "http://${if isEverywhere then "127.0.0.1" else host}:${toString cfg.port}" ];
      trusted-public-keys = [ cfg.publicKey ];
    };
  };
}
