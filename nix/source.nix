# What cargo reads of the checkout.
let
  root = toString ../. + "/";
  wanted = [
    "Cargo.lock"
    "Cargo.toml"
    "benches"
    "image"
    "src"
  ];
  first = path: builtins.head (builtins.split "/" path);
  below =
    path: builtins.substring (builtins.stringLength root) (builtins.stringLength path) path;
in
{
  inherit ((builtins.fromTOML (builtins.readFile ../Cargo.toml)).package) version;
  src = builtins.path {
    name = "cairn-source";
    path = ../.;
    filter = path: _: builtins.elem (first (below path)) wanted;
  };
}
