//! The hash tree of dm-verity: version 1, SHA-256, blocks of 4 KiB, the salt in front of what is
//! hashed, as `veritysetup format --no-superblock` makes it.

use sha2::{Digest, Sha256};

/// Bytes of a block, of data and of the tree.
pub const BLOCK: usize = 4096;
const DIGEST: usize = 32;

/// A tree.
#[derive(Debug)]
pub struct Tree {
    /// Its blocks, the top level first.
    pub bytes: Vec<u8>,
    /// The hash of the top.
    pub root: [u8; DIGEST],
}

/// The tree over `data`, a number of whole blocks of at least one.
pub fn tree(data: &[u8], salt: &[u8]) -> Tree {
    let mut levels: Vec<Vec<u8>> = Vec::new();
    let mut hashes = level(data, salt);
    while hashes.len() > DIGEST {
        hashes.resize(hashes.len().next_multiple_of(BLOCK), 0);
        let above = level(&hashes, salt);
        levels.push(hashes);
        hashes = above;
    }
    let mut root = [0; DIGEST];
    root.copy_from_slice(&hashes[..DIGEST]);
    levels.reverse();
    Tree {
        bytes: levels.concat(),
        root,
    }
}

/// The hashes of the blocks, one behind the other.
fn level(data: &[u8], salt: &[u8]) -> Vec<u8> {
    data.chunks(BLOCK)
        .flat_map(|block| {
            Sha256::new()
                .chain_update(salt)
                .chain_update(block)
                .finalize()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_lie_top_first() {
        // 129 blocks need two blocks of hashes, and one over them.
        let data: Vec<u8> = (0..129 * BLOCK).map(|at| (at / BLOCK) as u8).collect();
        let tree = tree(&data, b"salt");
        assert_eq!(tree.bytes.len(), 3 * BLOCK);
        let hash = |block: &[u8]| {
            Sha256::new()
                .chain_update(b"salt")
                .chain_update(block)
                .finalize()
        };
        assert_eq!(tree.root, *hash(&tree.bytes[..BLOCK]));
        assert_eq!(tree.bytes[..32], *hash(&tree.bytes[BLOCK..2 * BLOCK]));
        assert_eq!(tree.bytes[BLOCK..BLOCK + 32], *hash(&data[..BLOCK]));
        assert_eq!(
            tree.bytes[2 * BLOCK..2 * BLOCK + 32],
            *hash(&data[128 * BLOCK..])
        );
    }

    #[test]
    fn one_block_is_its_own_root() {
        let tree = tree(&[7; BLOCK], &[]);
        assert!(tree.bytes.is_empty());
        assert_eq!(tree.root, *Sha256::digest([7; BLOCK]));
    }
}
