//! Keyed state: what operators remember per key, snapshot without stopping the stream.
//!
//! State is cut by *key group* (the unit in which it moves between workers) and, within an
//! operator, by *pane*: a number such as the start of a window or of a slice of time. A pane is
//! dropped as a whole, and a checkpoint says so in one tombstone. Two structures serve all
//! operators:
//!
//! - [`KeyedTable`]: per key a fixed number of 64-bit words and, if asked for, a variable payload;
//! - [`FingerprintSet`]: fingerprints that are only ever added, with an optional time each.
//!
//! # Snapshots
//! [`Part::freeze`] marks what has changed since the last snapshot, in time proportional to the
//! number of keys divided by 64; [`Part::drain`] writes it out later, some bytes at a time, while
//! updates go on: an update of a slot that is marked and not yet written writes the old content
//! first. So a snapshot holds exactly what the state was at the freeze. [`Part::thaw`] gives the
//! content of a failed checkpoint to the next one. [`Sections`] assembles the parts of an operator
//! into the sections the engine carries, one per key group.
//!
//! [`Pieces`] is what an operator's own [`Part`] writes itself into.
//!
//! Nothing here depends on time, chance or the order of a hash map: what is read in order is
//! sorted by hash and key.
//!
//! Deliberately absent: storage, compression and checksums (the checkpoint crate's), and any
//! knowledge of what the words mean.

mod arena;
mod bitmap;
mod error;
mod fingerprint;
mod index;
mod key;
mod log;
mod ordered;
mod pane;
mod piece;
mod register;
mod rows;
mod section;
mod sieve;
mod slot;
mod table;
mod times;
mod value;
mod wire;
mod words;

pub use error::StateError;
pub use fingerprint::{FingerprintSet, Print, SetPane, fingerprint};
pub use key::{Key, KeyBlock, KeyBytes, short_texts};
pub use piece::Pieces;
pub use register::Register;
pub use rows::{ShapeReader, StateRows, builders};
pub use section::{Part, Sections};
pub use slot::Layout;
pub use table::{Entry, KeyedTable, PaneMut, PaneRef, Slot};
pub use value::{ColumnBuilder, encode_value};
pub use wire::{Reader, put_bytes, put_i64, put_u32, put_u64};
