# The echo service as a package: one program, whose only reference is the Node that runs it.
{
  system,
  nodejs,
  bundle,
}:
derivation {
  name = "echo-1.0.0";
  inherit system nodejs bundle;
  builder = "${nodejs}/bin/node";
  args = [ ./install-echo.mjs ];
}
