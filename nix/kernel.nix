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
    # What it was built with, as image/src/inputs.rs tells it: a store's folder is HASH-NAME-VERSION.
    tools=
    for tool in "$(gcc -print-prog-name=cc1)" gcc as ld ar objcopy strip awk bc bison flex m4 make perl zstd; do
      file=$(command -v "$tool") || continue
      file=$(readlink -f "$file")
      folder=''${file#"$NIX_STORE"/}
      folder=''${folder%%/*}
      name=$(echo "''${folder#*-}" | sed 's/-[^a-zA-Z].*//')
      its=''${folder#*-"$name"}
      its=''${its#-}
      tools="$tools''${tools:+,}$(printf '{"package":"%s","name":"%s","version":"%s","sha256":"%s"}' \
        "$name" "''${file##*/}" "''${its:-unknown}" "$(sum "$file")")"
    done
    printf '{"version":"%s","source_sha256":"%s","fragment_sha256":"%s","tools":[%s]}\n' \
      "$version" "$(sum "$src")" "$(sum wanted)" "$tools" >$out/vmlinuz.json
  '';
  dontFixup = true;
}
