//! Sections of state: how an operator's state travels to and from a checkpoint.

use bytes::Bytes;

use crate::key::KeyGroup;

/// A piece of one operator's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The key group it belongs to. State that is the same for every key (a watermark, a broadcast
    /// table) belongs to group 0 and is written by its owner alone, or to every group.
    pub group: KeyGroup,
    /// Whether it replaces all earlier sections of the group, rather than adding to them.
    pub base: bool,
    /// The content, uncompressed; the operator's own format, which carries a version.
    pub bytes: Bytes,
}
