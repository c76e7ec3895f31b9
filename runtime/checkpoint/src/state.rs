//! State objects: what operators freeze, on its way to the store and back.
//!
//! A worker writes the [sections](thalweg_stream::Section) of one checkpoint into a [part], each packed by a
//! [`Packer`]; [`PartWriter`] makes parts and [`PartReader`] reads by ranges. [`StateChains`] knows which parts of
//! which checkpoints make up the state of each step, and when a [`Compaction`] should merge
//! them. [`Restorer`] hands a step its sections in the order in which they apply.

mod chain;
mod compaction;
mod group;
mod packed;
pub mod part;
mod restore;

pub use self::chain::{CHAIN_DELTAS_MAX, Link, PartReport, StateChains};
pub use self::compaction::{Compacted, Compaction, Merge};
pub use self::group::GroupSet;
#[cfg(test)]
pub(crate) use self::packed::packed;
pub use self::packed::{PackedHead, PackedSection, Packer};
pub use self::part::{FinishedPart, PartReader, PartRecord, PartWriter};
pub use self::restore::{Planned, Restorer, plan};
