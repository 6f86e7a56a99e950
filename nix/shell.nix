# What `./dev test` needs; it builds no kernel here, for `nix build .#image` does.
{
  mkShell,
  cargo,
  cargo-deny,
  cargo-nextest,
  clippy,
  erofs-utils,
  grub2,
  python3,
  qemu_kvm,
  rustc,
  rustfmt,
  zstd,
}:
mkShell {
  packages = [
    cargo
    cargo-deny
    cargo-nextest
    clippy
    erofs-utils
    grub2
    python3
    qemu_kvm
    rustc
    rustfmt
    zstd
  ];
}
