{
  description = "Cairn, an XMPP chat server that is the whole machine";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      system = "x86_64-linux";
      parts = import ./nix { pkgs = nixpkgs.legacyPackages.${system}; };
    in
    {
      packages.${system} = {
        inherit (parts) builder cairn kernel image;
        default = parts.image;
      };
      # `nix run` boots the image in QEMU, with two accounts to try.
      apps.${system}.default = {
        type = "app";
        program = "${parts.machine}/bin/cairn-machine";
      };
      # `nix flake check` boots it, too.
      checks.${system} = {
        inherit (parts) builder boots-by-bios boots-by-uefi;
      };
      devShells.${system}.default = parts.shell;
    };
}
