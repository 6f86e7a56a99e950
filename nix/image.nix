# The disk, from a kernel and a program.
{
  runCommand,
  cacert,
  erofs-utils,
  grub2,
  grub2_efi,
  builder,
  cairn,
  kernel,
}:
runCommand "cairn-disk"
  {
    nativeBuildInputs = [
      builder
      erofs-utils
      grub2
    ];
    # The bill of materials goes by the names of Debian's packages.
    versions = builtins.toJSON {
      ca-certificates = cacert.version;
      erofs-utils = erofs-utils.version;
      grub-common = grub2.version;
      grub-efi-amd64-bin = grub2_efi.version;
      grub-pc-bin = grub2.version;
    };
  }
  ''
    mkdir grub
    ln -s ${grub2}/lib/grub/i386-pc ${grub2_efi}/lib/grub/x86_64-efi grub/
    printf %s "$versions" >versions.json
    cairn-image build --out $out --kernel ${kernel}/vmlinuz --binary ${cairn}/bin/cairn \
      --grub grub --roots ${cacert}/etc/ssl/certs/ca-bundle.crt --versions versions.json
    cairn-image verify $out/cairn.raw
  ''
