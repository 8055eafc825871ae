# The options of NixOS that the modules set or read, as NixOS 26.05 declares them (nix/README.md: where each was looked up). There
# are no others here: a name that is misspelt is refused.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  scalar = types.nullOr (
    types.oneOf [
      types.bool
      types.int
      types.float
      types.str
      types.path
    ]
  );
  # What a line of a unit may say; several lines for a list.
  section = mkOption {
    type = types.attrsOf (types.either (types.listOf scalar) scalar);
    default = { };
  };
  strings = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };
  flag =
    default:
    mkOption {
      type = types.bool;
      inherit default;
    };
  service = types.submodule {
    options = {
      description = mkOption {
        type = types.str;
        default = "";
      };
      after = strings;
      bindsTo = strings;
      wants = strings;
      wantedBy = strings;
      environment = section;
      path = mkOption {
        type = types.listOf (types.either types.package types.str);
        default = [ ];
      };
      restartIfChanged = flag true;
      startLimitIntervalSec = mkOption {
        type = types.int;
        default = 10;
      };
      serviceConfig = section;
    };
  };
in
{
  options = {
    assertions = mkOption {
      type = types.listOf types.unspecified;
      default = [ ];
    };
    warnings = strings;
    boot.kernel.sysctl = section;
    boot.kernelModules = strings;
    networking = {
      dhcpcd.denyInterfaces = strings;
      firewall.allowedTCPPorts = mkOption {
        type = types.listOf types.port;
        default = [ ];
      };
      firewall.extraForwardRules = mkOption {
        type = types.lines;
        default = "";
      };
      firewall.filterForward = flag false;
      firewall.trustedInterfaces = strings;
      networkmanager.unmanaged = strings;
      nftables.enable = flag false;
      nftables.flushRuleset = flag false;
    };
    nix.settings = section;
    security.allowUserNamespaces = flag true;
    systemd.services = mkOption {
      type = types.attrsOf service;
      default = { };
    };
  };
}
