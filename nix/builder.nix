# `cairn-image`, which builds images and looks into them.
{ rustPlatform }:
let
  source = import ./source.nix;
in
rustPlatform.buildRustPackage {
  pname = "cairn-image";
  inherit (source) version src;
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [
    "--package"
    "cairn-image"
  ];
  cargoTestFlags = [
    "--package"
    "cairn-image"
    "--bins"
  ];
  meta.mainProgram = "cairn-image";
}
