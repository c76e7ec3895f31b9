//! One number that is the same for every key, such as the watermark windows last fired at.

use thalweg_stream::KeyGroup;

use crate::bitmap::GroupSet;
use crate::error::StateError;
use crate::section::Part;
use crate::wire::{Reader, put_i64};

/// A number that only grows, written to every key group so that each later owner knows it.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    value: i64,
    frozen: i64,
    /// The value that the sections written so far say, if every group has one.
    saved: Option<i64>,
    /// Groups that are to be told the frozen value.
    untold: GroupSet,
}

impl Register {
    /// A register that starts at `value`.
    #[must_use]
    pub fn new(value: i64) -> Self {
        Self {
            value,
            frozen: value,
            saved: None,
            untold: GroupSet::default(),
        }
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.value
    }

    /// Raises it to `value`, or leaves it if that is less.
    pub fn raise(&mut self, value: i64) {
        self.value = self.value.max(value);
    }
}

impl Part for Register {
    fn freeze(&mut self, full: bool) {
        self.frozen = self.value;
        self.untold = match full || self.saved != Some(self.value) {
            true => GroupSet::ALL,
            false => GroupSet::default(),
        };
        self.saved = Some(self.value);
    }

    fn drain(&mut self, _budget_bytes: usize) -> (usize, bool) {
        (0, true)
    }

    fn take_group(&mut self, group: KeyGroup, out: &mut Vec<u8>) -> bool {
        let untold = self.untold.contains(group);
        if untold {
            self.untold.remove(group);
            put_i64(out, self.frozen);
        }
        untold
    }

    fn thaw(&mut self) {
        self.saved = None;
    }

    fn restore_group(
        &mut self,
        _group: KeyGroup,
        content: &mut Reader<'_>,
        _version: u8,
    ) -> Result<(), StateError> {
        self.raise(content.i64()?);
        Ok(())
    }

    fn forget_group(&mut self, _group: KeyGroup) {}
}
