# The command nex: packages/cli and the workspaces that it needs, compiled, with what they need of npm.
{
  autoPatchelfHook,
  callPackage,
  cni-plugins,
  lib,
  makeWrapper,
  nodejs_24,
  stdenv,
  guest-agent ? callPackage ./guest-agent.nix { },
}:
let
  npmDependencies = callPackage ./npm-dependencies.nix { };
  cli = [ "packages/cli" ];
  inherit
    (npmDependencies {
      name = "nex-nix-dependencies";
      parts = cli;
    })
    folders
    nodeModules
    ;
  build = npmDependencies {
    name = "nex-nix-build-dependencies";
    parts = cli;
    tools = [
      "@types/node"
      "typescript"
    ];
  };
in
stdenv.mkDerivation {
  pname = "nex-nix";
  inherit (lib.importJSON ../../packages/cli/package.json) version;

  src = callPackage ../sources.nix { } (
    [ ../../tsconfig.base.json ] ++ map (folder: ../.. + "/${folder}") folders
  );

  nativeBuildInputs = [
    autoPatchelfHook
    makeWrapper
    nodejs_24
  ];
  # Of the one native library that comes from npm.
  buildInputs = [ (lib.getLib stdenv.cc.cc) ];

  buildPhase = ''
    runHook preBuild
    ln --symbolic ${build.nodeModules}/node_modules/* node_modules/
    # Types are the business of npm run check.
    node node_modules/typescript/bin/tsc --build --noCheck packages/cli
    runHook postBuild
  '';

  installPhase = ''
    runHook preInstall
    lib="$out/lib/nex-nix"
    for folder in ${toString folders}; do
      mkdir --parents "$lib/$folder"
      cp --recursive "$folder/package.json" "$folder/dist" "$lib/$folder/"
    done
    cp --recursive packages/cli/bin "$lib/packages/cli/"
    # What compilers and editors read.
    find "$lib/packages" \( -name '*.d.ts' -o -name '*.map' -o -name '.tsbuildinfo' \) -delete

    cp --recursive --no-preserve=ownership ${nodeModules}/node_modules "$lib/node_modules"
    chmod --recursive u+w "$lib/node_modules"
    # It names the archives that everything was unpacked of.
    rm --force "$lib/node_modules/.package-lock.json"
    cp --no-dereference --recursive node_modules/@nex-nix "$lib/node_modules/@nex-nix"

    install -D --mode=0444 --target-directory="$lib/packages/guest/dist" ${guest-agent}/lib/nex-guest-agent/agent.cjs

    makeWrapper ${lib.getExe nodejs_24} "$out/bin/nex" \
      --add-flags "$lib/packages/cli/bin/nex.js" \
      --suffix PATH : ${lib.makeBinPath (callPackage ./runtime-tools.nix { })} \
      --set-default CNI_PATH ${cni-plugins}/bin
    runHook postInstall
  '';

  # Only of what is installed: that it starts, and that its parts find each other and what is from npm.
  doInstallCheck = true;
  installCheckPhase = ''
    runHook preInstallCheck
    export HOME="$TMPDIR"
    [ "$("$out/bin/nex" --version)" = "$version" ]
    for command in "" node "node up" "cache serve" devrun dev "guest build" "workload start"; do
      "$out/bin/nex" $command --help >/dev/null
    done
    # Nobody answers here: exit code 5.
    code=0
    "$out/bin/nex" --nats.servers nats://127.0.0.1:1 node list 2>/dev/null || code=$?
    [ "$code" = 5 ]
    runHook postInstallCheck
  '';

  passthru = { inherit nodeModules; };
  meta = {
    description = "NATS execution engine whose unit of deployment is a Nix store path";
    license = lib.licenses.mit;
    mainProgram = "nex";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
}
