# The kernel, by the recipe of image/src/kernel.rs from the source that nixpkgs has.
{
  stdenv,
  linux_6_12,
  bc,
  bison,
  cpio,
  elfutils,
  flex,
  openssl,
  perl,
  zstd,
}:
stdenv.mkDerivation {
  pname = "cairn-kernel";
  inherit (linux_6_12) version src;
  nativeBuildInputs = [
    bc
    bison
    cpio
    elfutils
    flex
    openssl
    perl
    zstd
  ];
  hardeningDisable = [
    "bindnow"
    "format"
    "fortify"
    "pic"
    "stackprotector"
  ];
  env = {
    KBUILD_BUILD_TIMESTAMP = "Thu Jan  1 00:00:01 UTC 1970";
    KBUILD_BUILD_USER = "build";
    KBUILD_BUILD_HOST = "cairn";
    KBUILD_BUILD_VERSION = "1";
  };
  postPatch = "patchShebangs scripts";
  configurePhase = ''
    { cat ${../image/kernel/common.fragment}; echo; cat ${../image/kernel/6.12.fragment}; } >wanted
    make ARCH=x86_64 allnoconfig KCONFIG_ALLCONFIG=wanted
    sh ${./check-config} wanted .config
  '';
  buildPhase = "make -j$NIX_BUILD_CORES ARCH=x86_64 bzImage";
  installPhase = ''
    mkdir $out
    cp arch/x86/boot/bzImage $out/vmlinuz
    sum() { sha256sum "$1" | cut -d' ' -f1; }
    printf '{"version":"%s","source_sha256":"%s","fragment_sha256":"%s","compiler":"%s"}\n' \
      "$version" "$(sum "$src")" "$(sum wanted)" "$(gcc -dumpfullversion)" >$out/vmlinuz.json
  '';
  dontFixup = true;
}
