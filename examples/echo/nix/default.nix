# The echo service without nixpkgs and without network. For the arguments see host-node.nix; ../build-echo.ts finds them.
{
  system,
  bundle,
  node,
  runtime,
  loader,
  nodeVersion,
  glibcVersion,
}:
import ./echo.nix {
  inherit system;
  bundle = builtins.path {
    name = "echo.cjs";
    path = /. + bundle;
  };
  nodejs = import ./host-node.nix {
    inherit
      system
      node
      runtime
      loader
      nodeVersion
      glibcVersion
      ;
  };
}
