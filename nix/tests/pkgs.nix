# A stand-in for nixpkgs with what the parts ask of it: its functions make derivations that depend on
# all they are given, and `runCommand` works with this machine's own tools, whose versions are given.
{ versions }:
let
  system = "x86_64-linux";
  # All it is given must have a value; none of it is built.
  unbuilt =
    name: given:
    derivation {
      inherit name system;
      builder = "/bin/sh";
      args = [
        "-c"
        "echo 'the stand-in builds no ${name}' >&2; exit 1"
      ];
      given = builtins.toJSON given;
    };
  make = given: unbuilt "${given.pname}-${given.version}" given;
  # What this machine has in place of a package.
  installed = name: {
    outPath = "/usr";
    version = versions.${name} or "unknown";
  };
  others = [
    "bc"
    "bison"
    "cargo"
    "cargo-deny"
    "cargo-nextest"
    "clippy"
    "coreutils"
    "cpio"
    "elfutils"
    "flex"
    "openssl"
    "perl"
    "python3"
    "rustc"
    "rustfmt"
    "zstd"
  ];
in
builtins.listToAttrs (
  map (name: {
    inherit name;
    value = unbuilt name { };
  }) others
)
// {
  OVMF.fd = unbuilt "ovmf" { };
  cacert =
    derivation {
      name = "cacert";
      inherit system;
      builder = "/bin/sh";
      args = [
        "-euc"
        "PATH=/usr/bin:/bin; mkdir -p $out/etc/ssl/certs; cp $from $out/etc/ssl/certs/ca-bundle.crt"
      ];
      from = /etc/ssl/certs/ca-certificates.crt;
    }
    // {
      version = versions.ca-certificates or "unknown";
    };
  erofs-utils = installed "erofs-utils";
  glibc.static = unbuilt "glibc-static" { };
  grub2 = installed "grub-pc-bin";
  grub2_efi = installed "grub-efi-amd64-bin";
  linux_6_12 = {
    version = "6.12";
    src = unbuilt "linux-source" { };
  };
  mkShell = given: unbuilt "shell" given;
  qemu_kvm = installed "qemu-system-x86";
  runCommand =
    name: given: script:
    derivation (
      given
      // {
        inherit name system;
        builder = "/bin/sh";
        args = [
          "-euc"
          "PATH=${builtins.concatStringsSep ":" (map (it: "${it}/bin") given.nativeBuildInputs)}:/usr/sbin:/sbin:/bin\n${script}"
        ];
      }
    );
  rustPlatform.buildRustPackage = make;
  stdenv.mkDerivation = make;
  symlinkJoin = given: unbuilt given.name given;
  writeShellScriptBin = name: text: unbuilt name text;
}
