//! What happens to windows when the watermark has come further.

use thalweg_stream::schema::{INSERT, UPDATE};
use thalweg_stream::{Fault, Output};

use crate::measure::{self, ROWS};
use crate::operator::Tumbling;

impl Tumbling {
    /// Fires every window that `watermark` completes, puts out again what changed in those that
    /// fired before, and forgets those that take no more rows; in order of window, hash and key.
    pub(crate) fn fire(&mut self, watermark: i64, out: &mut Output) -> Result<(), Fault> {
        let before = self.fired.get();
        let now = watermark.max(before);
        let windows = self.plan().windows;
        let forgotten = windows.forgotten(now);
        let due: Vec<i64> = (self.table.pane_ids())
            .take_while(|&start| windows.end(start) <= now)
            .collect();
        for start in due {
            if windows.end(start) > before {
                self.put_all(start, out)?;
                self.windows_fired += 1;
            } else {
                self.put_changed(start, out)?;
            }
            if windows.end(start) <= forgotten {
                let rows = self.table.pane(start).into_iter();
                let rows = rows.flat_map(|pane| pane.all_words());
                let rows = rows.filter_map(|words| words.get(ROWS));
                out.ledger.merged += rows.map(|&word| measure::rows(word)).sum::<u64>();
                self.taken().remove(&start);
                self.table.drop_pane(start);
                self.distinct.drop_pane(start);
            }
        }
        self.outcome.flush(out)?;
        self.changed.clear();
        self.fired.raise(now);
        self.closed.raise(forgotten);
        Ok(())
    }

    fn put_all(&mut self, start: i64, out: &mut Output) -> Result<(), Fault> {
        let window = (start, self.plan().windows.end(start));
        let Some(pane) = self.table.pane(start) else {
            return Ok(());
        };
        for entry in pane.sorted() {
            self.outcome.push(window, &entry, INSERT, out)?;
        }
        Ok(())
    }

    fn put_changed(&mut self, start: i64, out: &mut Output) -> Result<(), Fault> {
        let window = (start, self.plan().windows.end(start));
        let (Some(pane), Some(changed)) = (self.table.pane(start), self.changed.remove(&start))
        else {
            return Ok(());
        };
        let mut rows: Vec<_> = (changed.into_iter())
            .map(|(slot, new)| (pane.entry(slot), new))
            .collect();
        // Of the rows of one key the one that made its slot comes first.
        rows.sort_by(|(a, new_a), (b, new_b)| {
            (a.hash.cmp(&b.hash))
                .then_with(|| a.key.as_slice().cmp(b.key.as_slice()))
                .then_with(|| new_b.cmp(new_a))
        });
        rows.dedup_by_key(|(entry, _)| entry.slot);
        for (entry, new) in rows {
            let change = if new { INSERT } else { UPDATE };
            self.outcome.push(window, &entry, change, out)?;
        }
        Ok(())
    }
}
