//! The fingerprints of one pane: a set, and what of it snapshots are still to say.

use thalweg_stream::planted::planted;

use super::Print;
use crate::bitmap::GroupSet;
use crate::error::StateError;
use crate::log::{Logs, PRINT};
use crate::ordered::{OrderedSet, Place, Value};
use crate::pane::Store;
use crate::wire::{Reader, put_i64};

#[derive(Debug)]
pub(super) struct PrintStore {
    pub(super) timed: bool,
    pub(super) set: OrderedSet,
    /// What came since the last freeze.
    fresh: Log,
    /// What came between the freeze before and the last: what that has to say unless it is full.
    frozen: Log,
    /// How many of the frozen are written.
    written: usize,
    full: Option<Full>,
    /// The next part of the set to be made compact, once a pane gets no more.
    loose: Option<usize>,
}

/// Values in order of arrival, with their times if the set has any.
#[derive(Debug, Default)]
struct Log {
    values: Vec<Place>,
    times: Vec<i64>,
}

impl Log {
    fn get(&self, at: usize) -> Option<(Value, i64)> {
        let time = self.times.get(at).copied().unwrap_or_default();
        Some((self.values.get(at)?.value(), time))
    }

    fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<Place>() + self.times.capacity() * size_of::<i64>()
    }

    /// Gives back about so many bytes of the room it does not need; how many.
    fn shrink(&mut self, bytes: usize) -> usize {
        let before = self.memory_bytes();
        let values = bytes / size_of::<Place>();
        self.values
            .shrink_to(self.values.capacity().saturating_sub(values));
        self.times
            .shrink_to(self.times.capacity().saturating_sub(values));
        before - self.memory_bytes()
    }
}

/// A snapshot of everything, half written.
#[derive(Debug)]
struct Full {
    /// What is less is written.
    next: Value,
    /// What came since the freeze.
    later: OrderedSet,
}

impl PrintStore {
    /// Asks the memory for the places of many at once.
    #[inline]
    pub(super) fn warm(&self, prints: impl Iterator<Item = Print>) {
        let near = prints.map(|print| self.set.near(print.value()));
        std::hint::black_box(near.fold(0, |all, place| all ^ place));
    }

    /// What came since the last freeze, in order.
    pub(super) fn fresh(&self) -> &[Place] {
        &self.fresh.values
    }

    #[inline]
    pub(super) fn insert(&mut self, value: Value, time: i64) -> bool {
        let new = self.set.insert(value, time);
        if new {
            self.fresh.values.push(Place::of(value));
            if self.timed {
                self.fresh.times.push(time);
            }
            if let Some(full) = &mut self.full {
                full.later.insert(value, 0);
            }
        }
        new
    }

    fn write(&self, (value, time): (Value, i64), pane: i64, logs: &mut Logs) {
        let out = logs.about(value.group(), pane, PRINT);
        out.extend_from_slice(&value.bits().to_le_bytes());
        if self.timed {
            put_i64(out, time);
        }
    }
}

impl Store for PrintStore {
    type Shape = bool;

    fn new(timed: bool) -> Self {
        Self {
            timed,
            set: OrderedSet::new(timed),
            fresh: Log::default(),
            frozen: Log::default(),
            written: 0,
            full: None,
            loose: None,
        }
    }

    fn expect(&mut self, like: &Self) {
        self.set.expect(like.set.len());
    }

    fn freeze(&mut self, full: bool) {
        std::mem::swap(&mut self.fresh, &mut self.frozen);
        self.fresh.values.clear();
        self.fresh.times.clear();
        // A pane that rows no longer come to needs no room for more.
        self.loose = self.frozen.values.is_empty().then_some(0);
        self.written = if full { self.frozen.values.len() } else { 0 };
        self.full = full.then(|| Full {
            next: Value::default(),
            later: OrderedSet::new(false),
        });
        if planted("forget-dedup-slice") && self.set.len() == self.frozen.values.len() {
            (self.written, self.full) = (self.frozen.values.len(), None);
        }
    }

    fn is_pending(&self) -> bool {
        let written = self.full.is_none() && self.written >= self.frozen.values.len();
        !written || self.loose.is_some()
    }

    fn drain(&mut self, pane: i64, budget: usize, logs: &mut Logs) -> usize {
        let each = if self.timed { 24 } else { 16 };
        let most = budget.div_ceil(each);
        let mut count = 0;
        if let Some(mut full) = self.full.take() {
            let mut values = (self.set.iter_from(full.next))
                .filter(|(value, _)| full.later.find(*value).is_none());
            for one in values.by_ref().take(most) {
                self.write(one, pane, logs);
                count += 1;
            }
            let next = values.next();
            drop(values);
            if let Some((next, _)) = next {
                full.next = next;
                self.full = Some(full);
            }
            return count * each;
        }
        if let Some(part) = self.loose {
            // Bit by bit, as the system takes its time with much at once.
            let mut bytes = self.frozen.shrink(budget);
            if self.fresh.values.is_empty() {
                bytes += self.fresh.shrink(budget);
            }
            if bytes > 0 {
                return bytes;
            }
            let (bytes, next) = self.set.compact(part, budget);
            self.loose = next;
            return bytes;
        }
        while count < most
            && let Some(one) = self.frozen.get(self.written)
        {
            self.write(one, pane, logs);
            self.written += 1;
            count += 1;
        }
        count * each
    }

    fn thaw(&mut self) {
        self.frozen.values.append(&mut self.fresh.values);
        self.frozen.times.append(&mut self.fresh.times);
        self.fresh = std::mem::take(&mut self.frozen);
        self.loose = None;
        self.written = 0;
        self.full = None;
    }

    fn restore(&mut self, operation: u8, content: &mut Reader<'_>) -> Result<(), StateError> {
        if operation != PRINT {
            return Err(StateError::Shape("no operation of a set"));
        }
        let value = Value::of_bits(u128::from_le_bytes(content.array()?));
        let time = if self.timed { content.i64()? } else { 0 };
        // The checkpoint has it already.
        self.set.insert(value, time);
        Ok(())
    }

    fn forget(&mut self, groups: GroupSet) {
        self.set.remove_all(|value| groups.contains(value.group()));
        let fresh = std::mem::take(&mut self.fresh);
        for (value, time) in (0..).map_while(|at| fresh.get(at)) {
            if !groups.contains(value.group()) {
                self.fresh.values.push(Place::of(value));
                if self.timed {
                    self.fresh.times.push(time);
                }
            }
        }
    }

    fn clear(&mut self) {
        self.set.clear();
        self.fresh = Log::default();
        self.frozen = Log::default();
        self.written = 0;
        self.full = None;
        self.loose = None;
    }

    fn memory_bytes(&self) -> usize {
        self.set.memory_bytes() + self.fresh.memory_bytes() + self.frozen.memory_bytes()
    }
}
