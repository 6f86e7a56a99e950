# The program, linked statically against glibc as `cairn-image` does it, and what it is made of.
{
  rustPlatform,
  glibc,
  builder,
}:
let
  source = import ./source.nix;
in
rustPlatform.buildRustPackage {
  pname = "cairn";
  inherit (source) version src;
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [
    "--package"
    "cairn"
  ];
  # They start servers and clients: `./dev test`.
  doCheck = false;
  auditable = false;
  nativeBuildInputs = [ builder ];
  buildInputs = [ glibc.static ];
  # As image/src/binary.rs says.
  env.RUSTFLAGS = "-Ctarget-feature=+crt-static -Cdebuginfo=0 -Cstrip=symbols --cfg=getrandom_backend=\"linux_getrandom\"";
  postInstall = "cairn-image made . >$out/bin/cairn.json";
  meta.mainProgram = "cairn";
}
