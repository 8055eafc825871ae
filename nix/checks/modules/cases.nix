# What the modules take, and what they refuse with which words.
{
  good = {
    nothing = { };
    "a node" = {
      services.nex-node.enable = true;
    };
    "a node with everything" = {
      services.nex-node = {
        enable = true;
        openFirewall = true;
        stopTimeout = "1min";
        settings = {
          node_name = "rack1";
          tags.region = "lab";
          on_shutdown = "stop";
          max_workloads = 20;
          workload_cpus = 0.5;
          workload_memory = "512MiB";
          trusted_public_keys = [
            "a-1:AAAA"
            "b-1:BBBB"
          ];
          agents = [
            {
              uri = "file:///opt/nexlet";
              argv = [ "run" ];
            }
          ];
          guest_image = "/var/lib/guest";
          accel = "auto";
          bridge_name = "work0";
          metrics_port = 9123;
          metrics_address = "0.0.0.0";
          issuer_signing_key_root_account = "AAAA";
          nats.servers = [ "nats://10.0.0.1:4222" ];
          logger.level = "debug";
        };
        credentials = {
          context = "/run/secrets/node.json";
          issuer_signing_key = "/run/secrets/issuer";
          issuer_operator_seed = "/run/secrets/operator";
          system_context = "/run/secrets/system.json";
          cache_key_file = "/run/secrets/cache";
        };
      };
      networking.nftables.enable = true;
      networking.firewall.filterForward = true;
    };
    "a node with its own networks" = {
      services.nex-node.enable = true;
      services.nex-node.settings.cni_config = "/etc/cni/conf.d/mine.conflist";
    };
    "a node without bridge" = {
      services.nex-node.enable = true;
      services.nex-node.bridge.enable = false;
    };
    "a cache" = {
      services.nex-cache.enable = true;
    };
    "a cache with everything" = {
      services.nex-cache = {
        enable = true;
        address = "::";
        port = 443;
        openFirewall = true;
        protectReads = true;
        priority = 10;
        compression = "none";
        maxUpload = "8GiB";
        normaliseUploads = true;
        jetstreamReplicas = 3;
        cacheStorage = "file";
        cacheMaxSize = "100GiB";
        upstreams = [
          "https://cache.nixos.org"
          "https://other.example.org/100%25"
        ];
        trustedPublicKeys = [
          "a-1:AAAA"
          "b-1:BBBB"
        ];
        settings.nats.servers = [ "nats://10.0.0.1:4222" ];
        credentials = {
          nats_creds_file = "/run/secrets/creds";
          token_file = "/run/secrets/token";
          tls_cert = "/run/secrets/cert.pem";
          tls_key = "/run/secrets/key.pem";
          service_key_file = "/run/secrets/cache.key";
        };
      };
    };
    "a cache for this machine" = {
      services.nex-cache.enable = true;
      services.nex-cache.publicKey = "cache-1:AAAA";
    };
  };

  # What an assertion says.
  refused =
    let
      node = settings: {
        services.nex-node = settings // {
          enable = true;
        };
      };
      cache = settings: {
        services.nex-cache = settings // {
          enable = true;
        };
      };
    in
    {
      "Firecracker needs KVM" = node {
        settings.vmm = "firecracker";
        settings.accel = "tcg";
      };
      "virtual machines need a `guest_image`" = node { settings.sandboxes = [ "microvm" ]; };
      "the `jailer` is Firecracker's" = node { settings.jailer = true; };
      "`sandboxes` does not have the `sandbox`" = node {
        settings.sandbox = "oci";
        settings.sandboxes = [ "microvm" ];
        settings.guest_image = "/guest";
      };
      "both name a list" = node {
        settings.cni_config = "/a";
        settings.cni_network = "b";
      };
      "there is nothing to open" = node {
        openFirewall = true;
        settings.metrics_port = 9123;
      };
      "`settings.issuer_signing_key_root_account` come together" = node {
        credentials.issuer_signing_key = "/run/secrets/issuer";
      };
      "`settings.issuer_nkey` come together" = node { settings.issuer_nkey = "UAAA"; };
      "by a signing key or by an nkey" = node {
        credentials.issuer_signing_key = "/run/secrets/issuer";
        settings.issuer_signing_key_root_account = "AAAA";
        credentials.issuer_nkey_seed = "/run/secrets/nkey";
        settings.issuer_nkey = "UAAA";
      };
      "`system_context` come together" = node {
        credentials.issuer_operator_seed = "/run/secrets/operator";
      };
      "credentials.context: everybody can read" = node {
        credentials.context = "${builtins.storeDir}/node.json";
      };
      "leave security.allowUserNamespaces on" = {
        services.nex-node.enable = true;
        security.allowUserNamespaces = false;
      };
      "`tls_cert` and `tls_key` are needed both" = cache {
        credentials.tls_cert = "/run/secrets/cert.pem";
      };
      "there is no token to show" = cache { protectReads = true; };
      "nothing of them would be taken" = cache { upstreams = [ "https://cache.nixos.org" ]; };
      "Nix on this machine has no token" = cache {
        publicKey = "a-1:AAAA";
        protectReads = true;
        credentials.token_file = "/run/secrets/token";
      };
      "the certificate says by which name" = cache {
        publicKey = "a-1:AAAA";
        credentials.tls_cert = "/run/secrets/cert.pem";
        credentials.tls_key = "/run/secrets/key.pem";
      };
      "nobody knows a port" = cache {
        port = 0;
        publicKey = "a-1:AAAA";
      };
      "other machines do not reach 127.0.0.1" = cache { openFirewall = true; };
    };

  # What is no option, or not of its type.
  rejected = {
    "a setting that nobody knows" = {
      services.nex-node.enable = true;
      services.nex-node.settings.node_nam = "rack1";
    };
    "a setting of another type" = {
      services.nex-node.enable = true;
      services.nex-node.settings.max_workloads = "many";
    };
    "a choice that there is not" = {
      services.nex-node.enable = true;
      services.nex-node.settings.on_shutdown = "drain";
    };
    "a secret among the settings" = {
      services.nex-node.enable = true;
      services.nex-node.settings.issuer_signing_key = "SAAA";
    };
    "a secret by a path of the Nix language" = {
      services.nex-node.enable = true;
      services.nex-node.credentials.context = ./cases.nix;
    };
    "an interface with a name that is too long" = {
      services.nex-node.enable = true;
      services.nex-node.settings.bridge_name = "abcdefghijklmnop";
    };
    "a port that there is not" = {
      services.nex-cache.enable = true;
      services.nex-cache.port = 65536;
    };
    "an option of the cache that nobody knows" = {
      services.nex-cache.enable = true;
      services.nex-cache.upstream = [ ];
    };
    "an option that NixOS does not have" = {
      services.nex-node.enable = true;
      networking.firewall.trustedInterface = [ ];
    };
  };
}
