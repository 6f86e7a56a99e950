# A machine that starts from the image and serves.
{
  runCommand,
  qemu_kvm,
  image,
  firmware,
}:
runCommand "cairn-boots" { nativeBuildInputs = [ qemu_kvm ]; } ''
  sh ${./boot} ${image}/cairn.raw ${if firmware == null then "" else firmware} >$out
''
