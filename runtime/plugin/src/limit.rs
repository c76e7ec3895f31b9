//! What a plugin may use. Everything has a limit; two of them a definition can change.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// Largest component (bytes).
pub const COMPONENT_BYTES_MAX: usize = 8 << 20;
/// Most bytes that one call returns, or one line of log has before it is cut.
pub(crate) const RETURNED_BYTES_MAX: usize = 64 << 20;
/// Most functions of a plugin, and most arguments of one.
pub(crate) const FUNCTIONS_MAX: usize = 1_000;
pub(crate) const PARAMETERS_MAX: usize = 100;
/// Longest text of a failure that goes into a dead letter (bytes).
pub(crate) const MESSAGE_BYTES_MAX: usize = 2_000;
/// The stack of a guest (bytes).
pub(crate) const STACK_BYTES: usize = 512 << 10;
/// CPU time for a start: instantiation and the description of functions.
pub(crate) const START: Duration = Duration::from_millis(500);
/// Least deadline of a part of a batch.
pub(crate) const PART_MIN: Duration = Duration::from_millis(5);

/// The elements of all tables, and the parts of a component: what four languages need, and some.
const TABLE_ELEMENTS_MAX: usize = 20_000;
const INSTANCES_MAX: usize = 64;
const MEMORIES_MAX: usize = 4;
const TABLES_MAX: usize = 64;

/// Limits that a definition may set for a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory of one instance (bytes); each worker has one for each use of a function.
    pub memory_bytes: usize,
    /// CPU time for a batch. A batch that takes longer is repeated in parts, with four times this
    /// in all.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            deadline: Duration::from_millis(250),
        }
    }
}

/// Counts what an instance uses against its limits.
#[derive(Debug)]
pub(crate) struct Usage {
    memory_bytes_max: usize,
    memory_bytes: usize,
    table_elements: usize,
}

impl Usage {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes_max: limits.memory_bytes,
            memory_bytes: 0,
            table_elements: 0,
        }
    }

    /// Bytes of memory in use.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

/// A guest that asked for more than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Excess {
    #[error("memory limit of {} MiB exceeded", .0 >> 20)]
    Memory(usize),
    #[error("limit of {TABLE_ELEMENTS_MAX} table elements exceeded")]
    Table,
}

// A guest that is refused memory aborts at some later point without a word. The trap comes at once
// and says what happened.
impl ResourceLimiter for Usage {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .memory_bytes
            .saturating_add(desired.saturating_sub(current));
        if total > self.memory_bytes_max {
            return Err(Excess::Memory(self.memory_bytes_max).into());
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .table_elements
            .saturating_add(desired.saturating_sub(current));
        if total > TABLE_ELEMENTS_MAX {
            return Err(Excess::Table.into());
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }
    fn tables(&self) -> usize {
        TABLES_MAX
    }
    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}
