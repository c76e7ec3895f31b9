//! The content of sections: a log of operations per key group.
//!
//! | operation | content |
//! |---|---|
//! | `01` pane | `id i64`: what follows in the section is about this pane |
//! | `02` drop | `id i64`: all of the group in this pane is gone |
//! | `03` delete | key (`length u32`, bytes) |
//! | `04` put | key, words (8 bytes each), payload (`length u32`, bytes) where there is one |
//! | `05` print | key group, 88 bits, 32 zeros (16 bytes); time (8 bytes) where there is one |

use thalweg_stream::KeyGroup;
use thalweg_stream::key::KEY_GROUPS;

use crate::piece::Pieces;
use crate::wire::put_i64;

const PANE: u8 = 0x01;
const DROP: u8 = 0x02;
/// A key is gone.
pub(crate) const DELETE: u8 = 0x03;
/// A key has this content.
pub(crate) const PUT: u8 = 0x04;
/// A fingerprint is there.
pub(crate) const PRINT: u8 = 0x05;

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Pane,
    Drop,
    Of(u8),
}

impl Operation {
    pub(crate) fn of(tag: u8) -> Self {
        match tag {
            PANE => Self::Pane,
            DROP => Self::Drop,
            other => Self::Of(other),
        }
    }
}

/// One log per key group, in pieces of which each begins by saying which pane it is about.
#[derive(Debug)]
pub(crate) struct Logs {
    pieces: Pieces,
    /// What the end of each log is about.
    panes: Vec<Option<i64>>,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            pieces: Pieces::default(),
            panes: vec![None; KEY_GROUPS],
        }
    }
}

impl Logs {
    /// The log of `group`, about `pane`, where an operation is about to be written.
    pub(crate) fn about(&mut self, group: KeyGroup, pane: i64, operation: u8) -> &mut Vec<u8> {
        let end = self.pieces.end(group);
        let about = &mut self.panes[usize::from(group)];
        if end.is_empty() || *about != Some(pane) {
            *about = Some(pane);
            end.push(PANE);
            put_i64(end, pane);
        }
        end.push(operation);
        end
    }

    pub(crate) fn drop_pane(&mut self, group: KeyGroup, pane: i64) {
        self.panes[usize::from(group)] = None;
        let end = self.pieces.end(group);
        end.push(DROP);
        put_i64(end, pane);
    }

    /// See [`Pieces::full_group`].
    pub(crate) fn full_group(&mut self) -> Option<KeyGroup> {
        self.pieces.full_group()
    }

    /// See [`Pieces::copy`].
    pub(crate) fn copy(&self, group: KeyGroup, at: usize, out: &mut Vec<u8>) -> bool {
        self.pieces.copy(group, at, out)
    }

    /// See [`Pieces::take`].
    pub(crate) fn take(&mut self, group: KeyGroup, out: &mut Vec<u8>) {
        self.pieces.take(group, out);
    }

    /// Appends all that is in `later`.
    pub(crate) fn append(&mut self, later: Self) {
        self.pieces.append(later.pieces);
        self.panes.fill(None);
    }
}
