# `nix run`: `./dev run` with what Nix built.
{
  coreutils,
  qemu_kvm,
  symlinkJoin,
  writeShellScriptBin,
  builder,
  cairn,
  image,
}:
let
  built = symlinkJoin {
    name = "cairn-built";
    paths = [
      builder
      cairn
      image
    ];
  };
in
writeShellScriptBin "cairn-machine" ''
  export PATH=${qemu_kvm}/bin:${coreutils}/bin:$PATH
  export CAIRN_BUILT=${built}
  export CAIRN_RUN=''${CAIRN_RUN:-$PWD/run}
  exec sh ${../dev} run
''
