//! The content of sections: a log of operations per key group.
//!
//! | operation | content |
//! |---|---|
//! | `01` pane | `id i64`: what follows is about this pane |
//! | `02` drop | `id i64`: all of the group in this pane is gone |
//! | `03` delete | key (`length u32`, bytes) |
//! | `04` put | key, words (8 bytes each), payload (`length u32`, bytes) where there is one |
//! | `05` print | key group, 88 bits, 32 zeros (16 bytes); time (8 bytes) where there is one |

use thalweg_stream::KeyGroup;
use thalweg_stream::key::KEY_GROUPS;

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

/// One log per key group.
#[derive(Debug)]
pub(crate) struct Logs(Vec<Log>);

#[derive(Clone, Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    pane: Option<i64>,
}

impl Default for Logs {
    fn default() -> Self {
        Self(vec![Log::default(); KEY_GROUPS])
    }
}

impl Logs {
    /// The log of `group`, about `pane`, where an operation is about to be written.
    pub(crate) fn about(&mut self, group: KeyGroup, pane: i64, operation: u8) -> &mut Vec<u8> {
        let log = &mut self.0[usize::from(group)];
        if log.pane != Some(pane) {
            log.pane = Some(pane);
            log.bytes.push(PANE);
            put_i64(&mut log.bytes, pane);
        }
        log.bytes.push(operation);
        &mut log.bytes
    }

    pub(crate) fn drop_pane(&mut self, group: KeyGroup, pane: i64) {
        let log = &mut self.0[usize::from(group)];
        log.pane = None;
        log.bytes.push(DROP);
        put_i64(&mut log.bytes, pane);
    }

    /// What is in the log of `group`.
    pub(crate) fn bytes(&self, group: KeyGroup) -> &[u8] {
        &self.0[usize::from(group)].bytes
    }

    /// Takes out what is in the log of `group`.
    pub(crate) fn take(&mut self, group: KeyGroup) -> Vec<u8> {
        std::mem::take(&mut self.0[usize::from(group)]).bytes
    }

    /// Appends all that is in `later`.
    pub(crate) fn append(&mut self, later: Self) {
        for (log, later) in self.0.iter_mut().zip(later.0) {
            if !later.bytes.is_empty() {
                log.bytes.extend_from_slice(&later.bytes);
                log.pane = later.pane;
            }
        }
    }
}
