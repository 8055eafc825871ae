# How settings and secrets reach a daemon of this project. Settings are a file of the store, which everybody may read. Secrets
# are files of this machine, whose paths alone are in the store: systemd hands their content to the unit (LoadCredential).
{ lib, pkgs }:
let
  inherit (lib) types;

  # The options by which an administrator names the files.
  credentialOption =
    id:
    { description, ... }:
    lib.mkOption {
      # No path of the Nix language: it would copy the secret to the store.
      type = types.nullOr (types.strMatching "/.+");
      default = null;
      example = "/run/secrets/${id}";
      description = "${description} The path of a file that only root can read.";
    };

  # A word of ExecStart as it is, whatever is in it.
  escape = word: lib.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (builtins.toJSON word);

  without = isAbsent: lib.filterAttrsRecursive (_: value: !(isAbsent value));
in
{
  credentialOptions = lib.mapAttrs credentialOption;

  # The part of a unit that does not depend on what the daemon is. `command` is what is run, `known` what `given` may name.
  unit =
    {
      name,
      command,
      known,
      given,
      settings,
    }:
    let
      used = lib.filterAttrs (id: _: given.${id} != null) known;
      contexts = lib.filterAttrs (_: credential: credential.isContext or false) used;
      # systemd puts the folder of the unit's credentials for %d.
      argument =
        id:
        {
          flag,
          isContext ? false,
          ...
        }:
        "${flag} ${if isContext then id else "%d/${id}"}";
      settingsFile = (pkgs.formats.json { }).generate "${name}.json" (
        without (value: value == null) settings
      );
      # `nex` finds contexts by their names, below this folder; the files themselves are there while the unit runs.
      folder = pkgs.linkFarm "${name}-contexts" (
        lib.mapAttrsToList (id: _: {
          name = "nats/context/${id}.json";
          path = "/run/credentials/${name}.service/${id}";
        }) contexts
      );
    in
    {
      ExecStart = lib.concatStringsSep " " (
        map escape (
          command
          ++ [
            "--config"
            "${settingsFile}"
          ]
        )
        ++ lib.mapAttrsToList argument used
      );
      environment = lib.optionalAttrs (contexts != { }) { XDG_CONFIG_HOME = "${folder}"; };
      LoadCredential = lib.mapAttrsToList (id: _: "${id}:${given.${id}}") used;
      assertions = lib.mapAttrsToList (id: _: {
        assertion = !lib.hasPrefix "${builtins.storeDir}/" given.${id};
        message = "services.${name}.credentials.${id}: everybody can read what is in the store, keep the secret elsewhere";
      }) used;
    };
}
