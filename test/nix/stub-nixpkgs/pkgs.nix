# The packages and builders that are used. Programs are those of this machine, found on the `path` of machine.json, which the
# test writes beside this file; so builds must not be in a sandbox.
lib: system:
let
  machine = lib.importJSON ./machine.json;

  # Like nixpkgs' own: attributes are in the environment, or variables of the shell when they are structured.
  build =
    name: attributes: script:
    derivation (
      builtins.removeAttrs attributes [
        "meta"
        "nativeBuildInputs"
        "passthru"
      ]
      // {
        inherit name system;
        PATH = "${
          lib.concatStringsSep ":" (map (input: "${input}/bin") attributes.nativeBuildInputs or [ ])
        }:${machine.path}";
        builder = machine.bash;
        args = [
          "-c"
          ''
            set -e
            if [ -e "''${NIX_ATTRS_SH_FILE:-.attrs.sh}" ]; then
              source "''${NIX_ATTRS_SH_FILE:-.attrs.sh}"
              export PATH
              out="''${outputs[out]}"
            fi
            runHook() { :; }
            ${script}
          ''
        ];
      }
    )
    // attributes.passthru or { }
    // {
      inherit attributes;
      meta = attributes.meta or { };
    };

  # A package with programs of this machine.
  programs =
    name: list:
    build name { meta.mainProgram = builtins.head list; } ''
      mkdir -p "$out/bin"
      for program in ${lib.concatStringsSep " " list}; do ln -s "$(command -v "$program")" "$out/bin/"; done
    '';

  self = {
    inherit lib system;
    callPackage =
      package: given:
      let
        function = if builtins.isFunction package then package else import package;
      in
      function (builtins.intersectAttrs (builtins.functionArgs function) self // given);

    runCommand = build;
    stdenv = self.stdenvNoCC // {
      cc.cc = programs "gcc" [ "true" ];
    };
    stdenvNoCC = {
      hostPlatform = {
        inherit system;
        isx86_64 = system == "x86_64-linux";
      };
      mkDerivation =
        attributes:
        build "${attributes.pname}-${attributes.version}" attributes ''
          cp -r "$src" source && chmod -R u+w source && cd source
          ${attributes.buildPhase}
          ${attributes.installPhase}
          ${lib.optionalString (attributes.doInstallCheck or false) attributes.installCheckPhase}
        ''
        // {
          inherit (attributes) pname version;
        };
    };
    mkShellNoCC =
      { packages, ... }@attributes:
      build attributes.name (
        removeAttrs attributes [
          "name"
          "packages"
        ]
        // {
          nativeBuildInputs = packages;
          outputs = [ "out" ];
        }
      ) "printf %s \"$shellHook\" >\"$out\"";
    # What the real one installs by npm is taken from where npm has installed the same lock file.
    importNpmLock.buildNodeModules =
      {
        nodejs,
        package,
        packageLock,
      }:
      let
        places = lib.filter (place: place != "") (lib.attrNames packageLock.packages);
        isFetched =
          row:
          row ? integrity && lib.hasPrefix "https://registry.npmjs.org/" row.resolved && !(row.link or false);
        foreign = lib.filter (place: !isFetched packageLock.packages.${place}) places;
        unmet = lib.filter (name: !(packageLock.packages ? "node_modules/${name}")) (
          lib.attrNames package.dependencies
        );
      in
      if foreign ++ unmet != [ ] then
        throw "cannot be fetched: ${toString (foreign ++ unmet)}"
      else
        build "${package.name}-node-modules"
          {
            inherit places nodejs;
            lock = builtins.toJSON packageLock;
          }
          ''
            for place in $places; do
              mkdir -p "$out/$place"
              (cd "${machine.installed}/$place" && find . -path ./node_modules -prune -o -type f -print0 | tar c --null -T -) | tar x -C "$out/$place"
            done
            printf %s "$lock" >"$out/node_modules/.package-lock.json"
          '';
    writeShellScriptBin =
      name: text:
      build name
        {
          inherit text;
          meta.mainProgram = name;
        }
        ''
          mkdir -p "$out/bin"
          printf '#!%s\n%s\n' ${machine.bash} "$text" >"$out/bin/${name}"
          chmod 0555 "$out/bin/${name}"
        '';
    writeText = name: text: build name { inherit text; } "printf %s \"$text\" >\"$out\"";
    # The format is that of nixpkgs, and the hashes are as this Nix writes them.
    closureInfo =
      { rootPaths }:
      build "closure-info"
        {
          __structuredAttrs = true;
          exportReferencesGraph.closure = rootPaths;
        }
        ''
          mkdir "$out"
          node -e '
            const { closure } = JSON.parse(fs.readFileSync(process.argv[1]));
            const lines = (list) => list.map((line) => line + "\n").join("");
            fs.writeFileSync("registration", lines(closure.flatMap(({ path, narHash, narSize, references }) =>
              [path, narHash, narSize, "", references.length, ...references])));
            fs.writeFileSync("store-paths", lines(closure.map(({ path }) => path)));
          ' "''${NIX_ATTRS_JSON_FILE:-.attrs.json}"
          cp registration store-paths "$out"
        '';

    # Says what the real one would run.
    testers.runNixOSTest =
      {
        name,
        nodes,
        testScript,
      }:
      build "vm-test-run-${name}" {
        inherit testScript;
        nodes = builtins.toJSON (builtins.mapAttrs (_: node: node { pkgs = self; }) nodes);
      } "printf %s \"$testScript\" >\"$out\"";

    binutils = programs "binutils" [ "strip" ];
    e2fsprogs = programs "e2fsprogs" [ "mkfs.ext4" ];
    erofs-utils = programs "erofs-utils" [ "mkfs.erofs" ];
    autoPatchelfHook = programs "auto-patchelf" [ "true" ];
    busybox = programs "busybox" [ "true" ];
    cni-plugins = programs "cni-plugins" [ "true" ];
    crun = programs "crun" [ "crun" ];
    ffmpeg = programs "ffmpeg" [ "true" ];
    hello = programs "hello" [ "true" ];
    iproute2 = programs "iproute2" [ "ip" ];
    iptables = programs "iptables" [ "iptables" ];
    kmod = programs "kmod" [ "true" ];
    nats-server = programs "nats-server" [ "nats-server" ];
    natscli = programs "natscli" [ "true" ];
    nsc = programs "nsc" [ "true" ];
    qemu = programs "qemu" [ "true" ];
    pkgsStatic.busybox = programs "busybox" [ "busybox" ];
    curl = programs "curl" [ "curl" ];
    jq = programs "jq" [ "true" ];
    util-linux = programs "util-linux" [ "unshare" ];
    esbuild = programs "esbuild" [ "esbuild" ];
    nodejs_24 = programs "nodejs" [ "node" ];
    ttyd = programs "ttyd" [ "true" ];
    vhs = programs "vhs" [ "true" ];
    nodejs-slim_24 = programs "nodejs-slim" [ "node" ];
    nixfmt = programs "nixfmt" [ "true" ];
    nixfmt-tree = programs "nixfmt-tree" [ "true" ];
    systemd = build "systemd" { } ''
      mkdir -p "$out/lib/systemd" && ln -s /lib/systemd/systemd-socket-proxyd "$out/lib/systemd/"
    '';
    makeWrapper = build "make-wrapper" { } ''
      mkdir -p "$out/bin"
      { printf '#!%s\n' ${machine.bash} && cat ${./make-wrapper.sh}; } >"$out/bin/makeWrapper"
      chmod 0555 "$out/bin/makeWrapper"
    '';
    makeBinaryWrapper = self.makeWrapper;
    linuxPackages_6_18.kernel =
      build "linux-6.18" { } ''
        mkdir "$out" && echo kernel >"$out/Image"
      ''
      // {
        dev = build "linux-6.18-dev" { } ''
          mkdir "$out" && cp ${machine.vmlinux} "$out/vmlinux"
        '';
        modules = build "linux-6.18-modules" { } ''
          mkdir "$out"
        '';
      };
  };
in
self
