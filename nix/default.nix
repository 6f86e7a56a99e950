# The parts. Each file is a function of what it needs from nixpkgs and of other parts; `given` has
# parts that were made elsewhere.
{
  pkgs,
  given ? { },
}:
let
  part =
    file:
    let
      function = import file;
    in
    more: function (builtins.intersectAttrs (builtins.functionArgs function) (pkgs // parts // more));
  parts = {
    builder = part ./builder.nix { };
    cairn = part ./package.nix { };
    kernel = part ./kernel.nix { };
    image = part ./image.nix { };
    machine = part ./machine.nix { };
    boots-by-bios = part ./boots.nix { firmware = null; };
    boots-by-uefi = part ./boots.nix { firmware = "${pkgs.OVMF.fd}/FV/OVMF.fd"; };
    shell = part ./shell.nix { };
  } // given;
in
parts
