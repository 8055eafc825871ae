# The guest agent: one file made of this repository's sources, and the Node that runs it. It has no dependencies from npm, so
# nixpkgs' own esbuild is all that it takes to build.
{
  callPackage,
  esbuild,
  lib,
  makeBinaryWrapper,
  nodejs-slim_24,
  stdenvNoCC,
}:
stdenvNoCC.mkDerivation {
  pname = "nex-guest-agent";
  inherit (lib.importJSON ../../packages/guest/package.json) version;

  src = callPackage ../sources.nix { } [
    ../../packages/errors
    ../../packages/guest
    ../../tsconfig.base.json
  ];

  nativeBuildInputs = [
    esbuild
    makeBinaryWrapper
  ];

  # The same as packages/guest/bundle-agent.ts, byte for byte.
  buildPhase = ''
    runHook preBuild
    pushd packages/guest
    esbuild src/agent/main.ts --outfile=dist/agent.cjs \
      --bundle --platform=node --target=node24 --format=cjs --conditions=nexsrc \
      "--define:process.env.NEX_GUEST_AGENT_VERSION=\"$version\""
    popd
    runHook postBuild
  '';

  installPhase = ''
    runHook preInstall
    install -D --mode=0444 --target-directory="$out/lib/nex-guest-agent" packages/guest/dist/agent.cjs
    makeWrapper ${lib.getExe nodejs-slim_24} "$out/bin/nex-guest-agent" \
      --add-flags "--max-old-space-size=64 $out/lib/nex-guest-agent/agent.cjs"
    runHook postInstall
  '';

  meta = {
    description = "Agent in the guests of the microvm sandbox";
    license = lib.licenses.mit;
    mainProgram = "nex-guest-agent";
    platforms = lib.platforms.linux;
  };
}
