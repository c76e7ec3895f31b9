//! A step with state: sums by number.

use super::*;

/// Sums by `n`, put out at the end of time. A stateful operator in few lines, whose checkpoints hold
/// what has changed since the last one.
pub(crate) struct Sums;

#[derive(Default)]
pub(crate) struct SumState {
    sums: BTreeMap<i64, (i64, u64)>,
    changed: BTreeSet<i64>,
    frozen: Frozen,
}

/// Whether it is all, and the entries.
pub(crate) type Frozen = (bool, Vec<(i64, i64, u64)>);

pub(crate) fn sum_schema() -> StreamSchema {
    let columns = vec![
        Column::new("key", ColumnType::Int64),
        Column::new("sum", ColumnType::Int64),
    ];
    StreamSchema::append(columns, false)
}

impl OperatorFactory for Sums {
    fn routes(&self) -> Vec<Route> {
        vec![Route::Key(vec![0])]
    }
    fn outputs(&self) -> Vec<(&'static str, StreamSchema)> {
        vec![("", sum_schema())]
    }
    fn needs_epochs(&self) -> bool {
        true
    }
    fn state_shape(&self) -> Option<String> {
        Some("sums by n".to_owned())
    }
    fn build(&self, _: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
        Ok(Box::new(SumState::default()))
    }
}

impl Operator for SumState {
    fn on_batch(&mut self, _: usize, batch: &RecordBatch, _: &mut Output) -> Result<(), Fault> {
        for n in batch.column(0).as_primitive::<Int64Type>().values() {
            let sum = self.sums.entry(*n).or_default();
            sum.0 += n;
            sum.1 += 1;
            self.changed.insert(*n);
        }
        Ok(())
    }
    fn on_epoch(&mut self, close: &EpochClose<'_>, out: &mut Output) -> Result<(), Fault> {
        if close.inputs[0].finished && !self.sums.is_empty() {
            let sums = std::mem::take(&mut self.sums);
            out.ledger.merged += sums.values().map(|(_, count)| count).sum::<u64>();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(sums.keys().copied().collect::<Int64Array>()),
                Arc::new(sums.values().map(|(sum, _)| *sum).collect::<Int64Array>()),
                Arc::new(
                    sums.keys()
                        .map(|&k| Origin::derived(k as u64).0)
                        .collect::<UInt64Array>(),
                ),
            ];
            out.emit(RecordBatch::try_new(sum_schema().arrow(), columns)?);
        }
        Ok(())
    }
    fn held(&self) -> Held {
        Held {
            rows: self.sums.values().map(|(_, count)| count).sum(),
            bytes: 0,
        }
    }
    fn freeze(&mut self, full: bool) {
        let changed = std::mem::take(&mut self.changed);
        let entries = self.sums.iter().map(|(k, v)| (*k, v.0, v.1));
        let entries = entries.filter(|(key, ..)| full || changed.contains(key));
        self.frozen = (full, entries.collect());
    }
    fn freeze_failed(&mut self) {
        self.changed
            .extend(self.frozen.1.iter().map(|(key, ..)| key));
    }
    fn drain(&mut self, _: usize, sections: &mut Vec<Section>) -> Result<bool, Fault> {
        // By key group, so that any number of workers can take it back.
        let (base, entries) = &self.frozen;
        let mut groups: BTreeMap<u8, Vec<(i64, i64, u64)>> = BTreeMap::new();
        for &entry in entries {
            let mut key = vec![0x03];
            key.extend_from_slice(&entry.0.to_le_bytes());
            let group = thalweg_stream::key::key_group(thalweg_stream::key::hash(&key));
            groups.entry(group).or_default().push(entry);
        }
        for (group, entries) in groups {
            let bytes = serde_json::to_vec(&entries).map_err(|e| Fault::bug(e.to_string()))?;
            sections.push(Section {
                group,
                base: *base,
                bytes: bytes.into(),
            });
        }
        Ok(true)
    }
    fn restore(&mut self, section: &Section) -> Result<(), Fault> {
        let entries: Vec<(i64, i64, u64)> =
            serde_json::from_slice(&section.bytes).map_err(|e| Fault::corrupt(e.to_string()))?;
        for (key, sum, count) in entries {
            self.sums.insert(key, (sum, count));
        }
        Ok(())
    }
}
