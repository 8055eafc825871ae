# Node as a package without nixpkgs: this machine's own Node and the libraries that it loads, made to load each other from the store.
#
# `node` is the path of a Node program, `runtime` that of a folder with `lib/` (the libraries and the dynamic loader that Node and patchelf
# need, under the names they are loaded by) and `bin/patchelf`. Everything is built by that very Node, started by that very loader:
# the build needs no shell and no tool of the machine, and works inside Nix's sandbox.
{
  system,
  node,
  runtime,
  loader,
  nodeVersion,
  glibcVersion,
}:
let
  host = builtins.path {
    name = "host-runtime";
    path = /. + runtime;
  };
  hostNode = builtins.path {
    name = "host-node";
    path = /. + node;
  };
  build =
    name: environment:
    derivation (
      {
        inherit
          name
          system
          host
          hostNode
          ;
        builder = "${host}/lib/${loader}";
        args = [
          "--library-path"
          "${host}/lib"
          hostNode
          ./build-host-node.mjs
        ];
      }
      // environment
    );
  glibc = build "glibc-${glibcVersion}" { step = "glibc"; };
  gccLibs = build "gcc-libs" {
    step = "gccLibs";
    inherit glibc loader;
  };
in
build "nodejs-${nodeVersion}" {
  step = "nodejs";
  inherit glibc gccLibs loader;
}
