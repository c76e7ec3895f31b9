//! The table operators keep their keys in.

use thalweg_stream::KeyGroup;
use thalweg_stream::key::key_group;

use crate::error::StateError;
use crate::index::NO_SLOT;
use crate::key::{Key, KeyBlock, KeyBytes};
use crate::log::Logs;
use crate::pane::{Pane, Panes};
use crate::section::Part;
use crate::slot::{Layout, SlotStore};
use crate::wire::Reader;

/// Keys with a fixed number of words and an optional payload each, by pane.
///
/// ```
/// use thalweg_state::{Key, KeyedTable, Layout};
/// let mut table = KeyedTable::new(Layout { words: 1, payload: false });
/// let mut pane = table.pane_mut(0);
/// for key in [b"a", b"b", b"a"] {
///     let (slot, _new) = pane.touch(&Key::of(key));
///     pane.words_mut(slot)[0] += 1;
/// }
/// let pane = table.pane(0).unwrap();
/// let slot = pane.find(&Key::of(b"a")).unwrap();
/// assert_eq!(pane.words(slot), [2]);
/// ```
#[derive(Debug)]
pub struct KeyedTable {
    panes: Panes<SlotStore>,
}

/// Where a key lies within its pane. Valid until the key is removed or the pane dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub(crate) u32);

impl Slot {
    /// Its number, from 0: numbers are dense, and given again after a removal.
    #[inline]
    #[must_use]
    pub fn number(self) -> usize {
        self.0 as usize
    }

    /// The slot of a [`number`](Self::number).
    #[must_use]
    pub fn of_number(number: usize) -> Self {
        Self(u32::try_from(number).unwrap_or(NO_SLOT))
    }
}

/// One key and what is kept for it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Where it lies.
    pub slot: Slot,
    /// The key's hash.
    pub hash: u64,
    /// The encoded key.
    pub key: KeyBytes<'a>,
    /// Its words.
    pub words: &'a [u64],
    /// Its payload.
    pub payload: &'a [u8],
}

impl KeyedTable {
    /// An empty table, whose keys start with words of zero.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self::with_initial(layout, &[])
    }

    /// An empty table, whose keys start with these words (zero beyond them).
    #[must_use]
    pub fn with_initial(layout: Layout, initial: &[u64]) -> Self {
        let initial = initial.iter().copied().take(layout.words).collect();
        Self {
            panes: Panes::new((layout, initial)),
        }
    }

    /// The pane `id`, if anything is or was in it.
    #[must_use]
    pub fn pane(&self, id: i64) -> Option<PaneRef<'_>> {
        self.panes.get(id).map(|pane| PaneRef { pane })
    }

    /// The pane `id`, made if need be.
    pub fn pane_mut(&mut self, id: i64) -> PaneMut<'_> {
        let at = self.panes.open(id);
        PaneMut {
            pane: &mut self.panes.panes[at],
            written: &mut self.panes.written,
            removals: &mut self.panes.removals,
        }
    }

    /// The numbers of all panes, ascending.
    pub fn pane_ids(&self) -> impl DoubleEndedIterator<Item = i64> + '_ {
        self.panes.panes.iter().map(|pane| pane.id)
    }

    /// All panes, ascending.
    pub fn panes(&self) -> impl Iterator<Item = (i64, PaneRef<'_>)> {
        (self.panes.panes.iter()).map(|pane| (pane.id, PaneRef { pane }))
    }

    /// Drops a pane with all its keys.
    pub fn drop_pane(&mut self, id: i64) {
        self.panes.drop_pane(id);
    }

    /// How many keys there are in all panes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.panes().map(|(_, pane)| pane.len()).sum()
    }

    /// Whether there is no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.panes().all(|(_, pane)| pane.is_empty())
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.panes.memory_bytes()
    }
}

/// A pane to read.
#[derive(Clone, Copy, Debug)]
pub struct PaneRef<'a> {
    pane: &'a Pane<SlotStore>,
}

impl<'a> PaneRef<'a> {
    /// Where `key` lies.
    #[inline]
    #[must_use]
    pub fn find(&self, key: &Key<'_>) -> Option<Slot> {
        let gone = !self.pane.forgotten.is_empty() && self.pane.forgotten.contains(key.group());
        (self.pane.store.find(key.sought()))
            .filter(|_| !gone)
            .map(Slot)
    }

    /// The slots of many keys at once, nothing for keys that are not there; appended to `slots`.
    /// Faster than one by one.
    pub fn find_all(&self, keys: &KeyBlock<'_>, slots: &mut Vec<Option<Slot>>) {
        let mut found = Vec::with_capacity(keys.len());
        self.pane.store.find_all(keys, &mut found);
        let gone = self.pane.forgotten;
        if !gone.is_empty() {
            for (slot, key) in found.iter_mut().zip(keys.iter()) {
                *slot = if gone.contains(key.group()) {
                    NO_SLOT
                } else {
                    *slot
                };
            }
        }
        slots.extend((found.iter()).map(|&slot| (slot != NO_SLOT).then_some(Slot(slot))));
    }

    /// One more than the greatest slot number in use.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.pane.store.slots()
    }

    /// Everything there is, in no particular order: for what does not depend on one.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let (pane, gone) = (*self, self.pane.forgotten);
        (self.pane.store.in_use())
            .map(move |slot| pane.entry(Slot(slot)))
            .filter(move |entry| !gone.contains(key_group(entry.hash)))
    }

    /// The words of a key.
    #[inline]
    #[must_use]
    pub fn words(&self, slot: Slot) -> &'a [u64] {
        self.pane.store.words(slot.0)
    }

    /// The payload of a key.
    #[inline]
    #[must_use]
    pub fn payload(&self, slot: Slot) -> &'a [u8] {
        self.pane.store.payload(slot.0)
    }

    /// All there is at `slot`.
    #[must_use]
    pub fn entry(&self, slot: Slot) -> Entry<'a> {
        let store = &self.pane.store;
        Entry {
            slot,
            hash: store.hash(slot.0),
            key: store.key(slot.0),
            words: store.words(slot.0),
            payload: store.payload(slot.0),
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        if self.pane.forgotten.is_empty() {
            self.pane.store.len()
        } else {
            self.all_words().count()
        }
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The words of every key, in no particular order: for sums only.
    pub fn all_words(&self) -> impl Iterator<Item = &'a [u64]> + use<'a> {
        let (store, gone) = (&self.pane.store, self.pane.forgotten);
        (store.in_use())
            .filter(move |&slot| !gone.contains(key_group(store.hash(slot))))
            .map(|slot| store.words(slot))
    }

    /// Everything there is, ordered by hash and key.
    pub fn sorted(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let (pane, gone) = (*self, self.pane.forgotten);
        (self.pane.store.sorted().into_iter())
            .map(move |slot| pane.entry(Slot(slot)))
            .filter(move |entry| !gone.contains(key_group(entry.hash)))
    }
}

/// A pane to change.
#[derive(Debug)]
pub struct PaneMut<'a> {
    pane: &'a mut Pane<SlotStore>,
    written: &'a mut Logs,
    removals: &'a mut Logs,
}

impl PaneMut<'_> {
    /// The slots of many keys at once, ready to be changed; appended to `slots`. A new key is made
    /// with the initial words and no payload. Faster than one by one.
    pub fn touch_all(&mut self, keys: &KeyBlock<'_>, slots: &mut Vec<Slot>) {
        let Pane {
            store, groups, id, ..
        } = &mut *self.pane;
        store.touch_all(keys, slots, groups, (*id, &mut *self.written));
    }

    /// The slot of `key`, ready to be changed; made with the initial words and no payload if the
    /// key is new (then true).
    #[inline]
    pub fn touch(&mut self, key: &Key<'_>) -> (Slot, bool) {
        let logs = (self.pane.id, &mut *self.written);
        let (slot, new) = self.pane.store.touch(key, logs);
        if new {
            self.pane.groups.insert(key.group());
        }
        (Slot(slot), new)
    }

    /// The words of a slot, to be changed.
    pub fn words_mut(&mut self, slot: Slot) -> &mut [u64] {
        (self.pane.store).mark(slot.0, (self.pane.id, self.written));
        self.pane.store.touched_mut(slot.0)
    }

    /// The words of a slot that [`touch`](Self::touch) gave since the last freeze: spares the
    /// hot path the bookkeeping.
    #[inline]
    pub fn touched_mut(&mut self, slot: Slot) -> &mut [u64] {
        self.pane.store.touched_mut(slot.0)
    }

    /// Calls `change` with the words of each of these slots, of which the same holds, and what
    /// comes with it. Faster than one by one.
    #[inline]
    pub fn each_touched<T>(
        &mut self,
        slots: impl Iterator<Item = (Slot, T)>,
        change: impl FnMut(T, &mut [u64]),
    ) {
        let slots = slots.map(|(slot, with)| (slot.0, with));
        self.pane.store.each_touched(slots, change);
    }

    /// Replaces the payload of a slot.
    pub fn set_payload(&mut self, slot: Slot, payload: &[u8]) {
        (self.pane.store).mark(slot.0, (self.pane.id, self.written));
        self.pane.store.set_payload(slot.0, payload);
    }

    /// Removes `key`; true if it was there.
    pub fn remove(&mut self, key: &Key<'_>) -> bool {
        (self.pane.store).remove(key, self.pane.id, self.written, self.removals)
    }

    /// The pane as it is now.
    #[must_use]
    pub fn as_ref(&self) -> PaneRef<'_> {
        PaneRef { pane: self.pane }
    }
}

impl Part for KeyedTable {
    fn freeze(&mut self, full: bool) {
        self.panes.freeze(full);
    }

    fn drain(&mut self, budget_bytes: usize) -> (usize, bool) {
        self.panes.drain(budget_bytes)
    }

    fn full_group(&mut self) -> Option<KeyGroup> {
        self.panes.full_group()
    }

    fn take_group(&mut self, group: KeyGroup, out: &mut Vec<u8>) -> bool {
        self.panes.take(group, out)
    }

    fn thaw(&mut self) {
        self.panes.thaw();
    }

    fn restore_group(
        &mut self,
        group: KeyGroup,
        content: &mut Reader<'_>,
        _version: u8,
    ) -> Result<(), StateError> {
        self.panes.restore_group(group, content)
    }

    fn forget_group(&mut self, group: KeyGroup) {
        self.panes.forget_group(group);
    }
}
