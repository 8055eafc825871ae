# What parts of this repository need of npm, as package-lock.json has it, installed by nixpkgs' importNpmLock. There is no hash
# to keep up to date: those of the lock file are taken.
#
# `parts` are folders of workspaces, `tools` names of packages at the root. Gives `folders`, those workspaces and all that they
# need of others, and `nodeModules`, a package with a folder `node_modules` that holds everything else that they need.
#
# importNpmLock knows nothing of workspaces. So it is shown a project that has none: it depends on what the workspaces depend on.
{
  importNpmLock,
  lib,
  nodejs_24,
  stdenv,
}:
{
  name,
  parts,
  tools ? [ ],
}:
let
  rows = (lib.importJSON ../../package-lock.json).packages;

  # In which folder npm has put a package for who is in `folder`: the nearest node_modules, as Node looks for it.
  find =
    folder: package:
    let
      place = lib.optionalString (folder != "") "${folder}/" + "node_modules/${package}";
      above = dirOf folder;
    in
    if rows ? ${place} then
      place
    else if folder == "" then
      null
    else
      find (if above == "." then "" else above) package;

  cpu = if stdenv.hostPlatform.isx86_64 then "x64" else "arm64";
  # Whether an optional package is for this kind of machine, and can be checked when it is fetched: npm writes no hash for
  # those that its registry could not give when the lock file was made.
  isUsable =
    row:
    row ? integrity
    && lib.elem "linux" (row.os or [ "linux" ])
    && lib.elem cpu (row.cpu or [ cpu ])
    && lib.elem "glibc" (row.libc or [ "glibc" ]);

  need =
    place: package:
    let
      found = find place package;
    in
    if found == null then
      throw "Cannot build \"${name}\": package-lock.json has no \"${package}\", which \"${place}\" needs; run npm install"
    else
      found;
  needsOf =
    place:
    let
      row = rows.${place};
      optional = filterNull (map (find place) (lib.attrNames (row.optionalDependencies or { })));
    in
    if row.link or false then
      [ row.resolved ]
    else
      map (need place) (lib.attrNames (row.dependencies or { }))
      ++ lib.filter (at: isUsable rows.${at}) optional;
  filterNull = lib.filter (value: value != null);

  places = map (entry: entry.key) (
    builtins.genericClosure {
      startSet = map (key: { inherit key; }) (parts ++ map (need "") tools);
      operator = entry: map (key: { inherit key; }) (needsOf entry.key);
    }
  );
  isWorkspace = place: !lib.hasInfix "node_modules/" place;
  folders = lib.filter isWorkspace places;
  installed = lib.filter (place: !isWorkspace place && !(rows.${place}.link or false)) places;

  # The lock file was made with a registry that is not named in it: what it names is the same in all of them.
  urlOf =
    place: row:
    let
      package = row.name or (lib.last (lib.splitString "node_modules/" place));
    in
    row.resolved or "https://registry.npmjs.org/${package}/-/${baseNameOf package}-${row.version}.tgz";
  fetched =
    place:
    let
      row = rows.${place};
      isInstalled = package: _: lib.elem (find place package) installed;
    in
    if !lib.hasPrefix "node_modules/" place then
      throw "Cannot build \"${name}\": npm has put \"${place}\" beside a workspace, which cannot be installed here; depend on one version of it everywhere"
    else
      removeAttrs row [
        "dev"
        "devOptional"
        "optionalDependencies"
      ]
      // lib.optionalAttrs (row ? optionalDependencies) {
        optionalDependencies = lib.filterAttrs isInstalled row.optionalDependencies;
      }
      // {
        resolved = urlOf place row;
        integrity =
          row.integrity
            or (throw "Cannot build \"${name}\": package-lock.json has no hash of \"${place}\"; run npm install with a registry that has it");
      };

  # What is wanted by name, rather than by what is wanted.
  direct =
    tools
    ++ lib.concatMap (
      folder:
      lib.filter (package: isDirect folder package) (lib.attrNames (rows.${folder}.dependencies or { }))
    ) folders;
  isDirect = folder: package: !(rows.${need folder package}.link or false);

  package = {
    inherit name;
    inherit (lib.importJSON ../../package.json) overrides;
    version = "0.0.0";
    dependencies = lib.genAttrs direct (wanted: rows."node_modules/${wanted}".version);
  };
in
{
  inherit folders;
  nodeModules = importNpmLock.buildNodeModules {
    inherit package;
    nodejs = nodejs_24;
    packageLock = {
      inherit (package) name version;
      lockfileVersion = 3;
      requires = true;
      packages = lib.genAttrs installed fetched // {
        "" = removeAttrs package [ "overrides" ];
      };
    };
  };
}
