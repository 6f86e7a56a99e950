//! Values of the server itself: keys, certificates, secrets, small state.

use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

/// [`Kind::Setting`](super::Kind::Setting), version 1.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct SettingV1<'a> {
    /// Its name.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
    /// Its value.
    #[rkyv(with = InlineAsBox)]
    pub value: &'a [u8],
}

/// [`Kind::SettingRemoved`](super::Kind::SettingRemoved), version 1.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct SettingRemovedV1<'a> {
    /// Its name.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
}
