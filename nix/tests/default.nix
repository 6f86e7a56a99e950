# The flake with the stand-in for nixpkgs, and the parts that can be built with it.
{
  kernel,
  cairn,
  builder,
  versions,
}:
let
  pkgs = import ./pkgs.nix { versions = builtins.fromJSON versions; };
  flake = import ../../flake.nix;
  outputs = flake.outputs {
    self = outputs;
    nixpkgs.legacyPackages.x86_64-linux = pkgs;
  };
  pinned = (builtins.fromJSON (builtins.readFile ../../flake.lock)).nodes.nixpkgs;
  given = { inherit kernel cairn builder; };
in
{
  # Every output has a value.
  evaluated = {
    inherit (outputs) apps;
    packages = builtins.attrNames outputs.packages.x86_64-linux;
    checks = builtins.attrNames outputs.checks.x86_64-linux;
  };
  instantiated = builtins.attrValues (
    outputs.packages.x86_64-linux // outputs.checks.x86_64-linux // outputs.devShells.x86_64-linux
  );
  # The lock file pins the release that the flake names.
  is-pinned =
    flake.inputs.nixpkgs.url
    == "github:${pinned.original.owner}/${pinned.original.repo}/${pinned.original.ref}"
    && builtins.match "[0-9a-f]{40}" pinned.locked.rev != null
    && builtins.match "sha256-[A-Za-z0-9+/]{43}=" pinned.locked.narHash != null;
  built = import ../. { inherit pkgs given; };
}
