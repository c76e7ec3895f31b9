//! The table of an enrichment: what its rows change, and what can be forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_state::{Key, encode_value};
use thalweg_stream::schema::DELETE;
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{Fault, Output};

use super::{Enrich, PANE, VERSIONS, has_null};
use crate::version::{History, Version};

impl Enrich {
    /// Brings the table's rows of the epoch into the table, ordered by (event time, origin).
    pub(super) fn apply_changes(&mut self, out: &mut Output) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        let batches = std::mem::take(&mut self.changes);
        let mut order = Vec::new();
        let mut keys = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            let origins = plan.table.origins(batch)?;
            let times = if plan.table.timed {
                Some(plan.table.event_times(batch)?)
            } else {
                None
            };
            self.table_encoder.encode(batch)?;
            for (row, &origin) in origins.iter().enumerate() {
                let time = times.map_or(START_OF_TIME, |times| times[row]);
                let key = self.table_encoder.key(row);
                let from = keys.len();
                keys.extend_from_slice(key);
                order.push((time, origin, number, row, from..keys.len()));
            }
        }
        order.sort_unstable_by_key(|&(time, origin, number, row, _)| (time, origin, number, row));
        let mut values = Vec::new();
        for (time, origin, number, row, key) in order {
            let batch = &batches[number];
            if has_null(batch, &plan.table_key, row) {
                out.ledger.merged += 1;
                continue;
            }
            let deleted = (plan.table.changes(batch)).is_some_and(|kinds| kinds[row] == DELETE);
            values.clear();
            for (at, _) in plan.spec.take.iter().filter(|_| !deleted) {
                encode_value(batch.column(*at), row, &mut values)?;
            }
            let version = Version {
                time,
                // Without time, a row of a later epoch is newer whatever its origin.
                origin: if plan.table.timed { origin } else { 0 },
                deleted,
                values: &values,
            };
            self.add_version(&keys[key], version, out)?;
        }
        Ok(())
    }

    fn add_version(
        &mut self,
        key: &[u8],
        version: Version<'_>,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let mut pane = self.table.pane_mut(PANE);
        let (slot, _) = pane.touch(&Key::of(key));
        let old = pane.as_ref().payload(slot).to_vec();
        let mut history = History::read(&old)?;
        history.add(version);
        let before = history.len();
        let next = if self.plan.spec.as_of.is_some() {
            history.prune(self.horizon.get(), self.complete);
            history.prunable_at()
        } else {
            // Rows of a table without time follow one another by epoch.
            let horizon = if self.plan.table.timed {
                self.horizon.get()
            } else {
                i64::MAX
            };
            history.keep_newest(horizon);
            history.prunable_at()
        };
        out.ledger.merged += (before - history.len()) as u64;
        self.store(key, &history);
        if let (Some(time), Some(prunable)) = (next, &mut self.prunable) {
            prunable.entry(time).or_default().push(key.to_vec());
        }
        Ok(())
    }

    /// Writes a key's versions back; a key without any is gone.
    fn store(&mut self, key: &[u8], history: &History<'_>) {
        let mut pane = self.table.pane_mut(PANE);
        let key = Key::of(key);
        let before = pane.as_ref().find(&key).map_or(0, |slot| {
            let words = pane.as_ref().words(slot);
            words.get(VERSIONS).copied().unwrap_or_default()
        });
        self.versions = (self.versions + history.len() as u64).saturating_sub(before);
        if let Some(slot) = pane.as_ref().find(&key) {
            self.newest.strike_out(slot);
        }
        if history.len() == 0 {
            pane.remove(&key);
            return;
        }
        let mut payload = Vec::new();
        history.write(&mut payload);
        let (slot, _) = pane.touch(&key);
        pane.set_payload(slot, &payload);
        if let Some(count) = pane.words_mut(slot).get_mut(VERSIONS) {
            *count = history.len() as u64;
        }
    }

    /// Versions in the table, by looking through it.
    pub(super) fn stored_versions(&self) -> u64 {
        let words = (self.table.panes()).flat_map(|(_, pane)| pane.all_words());
        words.filter_map(|words| words.get(VERSIONS)).sum()
    }

    /// Forgets versions that no row after the horizon can see.
    pub(super) fn prune(&mut self, out: &mut Output) -> Result<(), Fault> {
        let mut due = match self.prunable.take() {
            Some(prunable) => prunable,
            None => self.look_through()?,
        };
        let later = match self.horizon.get().checked_add(1) {
            Some(next) => due.split_off(&next),
            None => BTreeMap::new(),
        };
        self.prunable = Some(later);
        for key in due.into_values().flatten() {
            let Some(payload) = self.table.pane(PANE).and_then(|pane| {
                let slot = pane.find(&Key::of(&key))?;
                Some(pane.payload(slot).to_vec())
            }) else {
                continue;
            };
            let mut history = History::read(&payload)?;
            let before = history.len();
            history.prune(self.horizon.get(), self.complete);
            if history.len() < before {
                out.ledger.merged += (before - history.len()) as u64;
                self.store(&key, &history);
            }
            if let (Some(time), Some(prunable)) = (history.prunable_at(), &mut self.prunable) {
                // A deletion that waits for the table is looked at again when the horizon moves.
                let next = time.max(self.horizon.get().saturating_add(1));
                prunable.entry(next).or_default().push(key);
            }
        }
        Ok(())
    }

    /// When which key of a restored table can be pruned.
    fn look_through(&self) -> Result<BTreeMap<i64, Vec<Vec<u8>>>, Fault> {
        let mut prunable: BTreeMap<i64, Vec<Vec<u8>>> = BTreeMap::new();
        if let Some(pane) = self.table.pane(PANE) {
            for entry in pane.sorted() {
                if let Some(time) = History::read(entry.payload)?.prunable_at() {
                    let key = entry.key.as_slice().to_vec();
                    prunable.entry(time).or_default().push(key);
                }
            }
        }
        Ok(prunable)
    }
}
