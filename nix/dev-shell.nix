# The shell of `nix develop` and of direnv: the commands below, what they need, and the variables that point tools at `.data`.
# `nex` and what is made of it run this checkout's sources; npm's packages are installed when they are first needed.
{
  busybox,
  callPackage,
  cni-plugins,
  ffmpeg,
  lib,
  mkShellNoCC,
  natscli,
  nixfmt-tree,
  nodejs_24,
  nsc,
  ttyd,
  vhs,
  writeShellScriptBin,
}:
let
  tools = callPackage ./packages/runtime-tools.nix { };

  # Each is of a `package`, whose own program is in the shell then, or runs `command`.
  commands = [
    {
      name = "check";
      category = general;
      help = "run the checks of the flake";
      command = ''cd "$PRJ_ROOT" && exec nix flake check "$@"'';
    }
    {
      name = "fmt";
      category = general;
      help = "format the repo";
      command = ''
        ${sources}
        cd "$PRJ_ROOT"
        ${lib.getExe nixfmt-tree} --tree-root . "$@"
        exec npm run --silent fmt
      '';
    }
    {
      name = "menu";
      category = general;
      help = "prints this menu";
      command = "cat ${builtins.toFile "menu.txt" menu}";
    }
    {
      name = "clean";
      category = "development";
      help = "remove stale network namespaces, interfaces, mounts and cgroups";
      command = nex "clean";
    }
    {
      name = "dev";
      category = "development";
      help = "run local dev services";
      command = ''cd "$PRJ_ROOT"; ${nex "dev"}'';
    }
    {
      name = "dev-init";
      category = "development";
      help = "re-initialise data directory";
      command = ''cd "$PRJ_ROOT"; ${nex "dev init"}'';
    }
    {
      name = "gifs";
      category = "docs";
      help = "make the gifs of the docs";
      command = ''
        export PATH="$PATH:${
          lib.makeBinPath [
            busybox
            ffmpeg
            ttyd
          ]
        }"
        exec "$PRJ_ROOT/docs/vhs/make-gifs.sh" "$@"
      '';
    }
    {
      name = "vhs";
      category = "docs";
      help = "generate terminal gifs";
      package = vhs;
    }
    {
      name = "nats";
      category = "synadia";
      help = "NATS Server and JetStream administration";
      package = natscli;
    }
    {
      name = "nex";
      category = "synadia";
      help = "NATS Execution Engine CLI Version";
      command = nex "";
    }
    {
      name = "nsc";
      category = "synadia";
      help = "creates NATS operators, accounts, users, and manage their permissions";
      package = nsc;
    }
  ];
  general = "[general commands]";

  # What is at the end of PATH is also found where sudo has replaced it.
  sources = ''
    if [ ! -e "''${PRJ_ROOT:-}/packages/cli/bin/nex.js" ]; then
      echo "Cannot run this outside a checkout of nex-nix: enter the shell in one, or run nix run .#nex" >&2
      exit 1
    fi
    export PATH="$PATH:${lib.makeBinPath ([ nodejs_24 ] ++ tools)}"
    [ -e "$PRJ_ROOT/node_modules/.package-lock.json" ] || npm ci --prefix "$PRJ_ROOT" >&2
  '';
  nex = subcommand: ''
    ${sources}
    export CNI_PATH="''${CNI_PATH:-${cni-plugins}/bin}"
    exec ${lib.getExe nodejs_24} "$PRJ_ROOT/packages/cli/bin/nex.js" ${subcommand} "$@"
  '';

  width = lib.foldl' lib.max 0 (map (command: lib.stringLength command.name) commands);
  pad = text: text + lib.concatStrings (lib.genList (_: " ") (width - lib.stringLength text));
  line = command: "  ${pad command.name} - ${command.help}\n";
  section = category: entries: "\n[${category}]\n\n${lib.concatStrings (map line entries)}";
  byName = lib.sort (one: other: one.name < other.name);
  menu =
    lib.concatStrings (
      lib.mapAttrsToList (category: entries: section category (byName entries)) (
        lib.groupBy (command: command.category) commands
      )
    )
    + "\n";

  programs = map (
    command:
    command.package or (writeShellScriptBin command.name ''
      set -euo pipefail
      ${command.command}
    '')
  ) commands;

  # Below `.data`, where `nex dev` keeps everything. What is not known before it runs, `eval "$(nex dev env)"` adds.
  folders = {
    NATS_HOME = "nats";
    NATS_JWT_DIR = "nats/jwt";
    NSC_HOME = "nsc";
    NKEYS_PATH = "nsc";
    BINARY_CACHE_DATA = "cache";
    BINARY_CACHE_NETRC = "cache/netrc";
    BINARY_CACHE_SECRET_KEY_FILE = "cache/secret-key";
    BINARY_CACHE_TOKEN_FILE = "cache/token";
    XDG_CONFIG_HOME = "";
  };
  export = name: folder: ''
    export ${name}="$PRJ_ROOT/.data${lib.optionalString (folder != "") "/${folder}"}"
  '';
in
mkShellNoCC {
  name = "nex-nix";
  packages = programs ++ [ nodejs_24 ] ++ tools;

  shellHook = ''
    PRJ_ROOT="$PWD"
    while [ "$PRJ_ROOT" != / ] && [ ! -e "$PRJ_ROOT/packages/cli/bin/nex.js" ]; do
      PRJ_ROOT="$(dirname "$PRJ_ROOT")"
    done
    [ "$PRJ_ROOT" != / ] || PRJ_ROOT="$PWD"
    export PRJ_ROOT

    # Contexts of nats are below XDG_CONFIG_HOME. Nix and git keep to the settings of who enters the shell.
    settings="''${XDG_CONFIG_HOME:-$HOME/.config}"
    export NIX_USER_CONF_FILES="''${NIX_USER_CONF_FILES:-$settings/nix/nix.conf}"
    if [ ! -e "$HOME/.gitconfig" ] && [ -e "$settings/git/config" ]; then
      export GIT_CONFIG_GLOBAL="$settings/git/config"
    fi
    unset settings
    ${lib.concatStrings (lib.mapAttrsToList export folders)}
    export BINARY_CACHE_URL=http://127.0.0.1:8080
    export CNI_PATH="''${CNI_PATH:-${cni-plugins}/bin}"
    case $- in *i*) menu ;; esac
  '';

  passthru = { inherit menu; };
}
