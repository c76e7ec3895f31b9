//! State of a window whose aggregates have changed, brought into the shape that it has now.
//!
//! What was kept goes on. A sum, mean or extreme that is new knows nothing of the rows that came
//! before it was asked for: it is null for each key of a window that has such rows, as a value that
//! leaves them out would be wrong, and known for every other. A count cannot be null, so one that
//! would have to know such rows is not added to state.

use thalweg_state::{FingerprintSet, Key, KeyedTable, Layout, Part, Register, Sections};
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{Column, Fault, Migration, Section, StreamSchema};

use crate::kernel::{initial_words, replace_text, text};
use crate::measure::{Measures, ROWS, rows};
use crate::operator::{PARTS, VERSION};
use crate::rows::Shape;
use crate::spec::Function;

/// Whether `word` of a label is a computed column as stores of earlier versions call it: by its
/// place alone, so that the name does not say what it is.
pub(crate) fn is_placed(word: &str) -> bool {
    let name = word.split(':').next().unwrap_or_default();
    name.strip_prefix('_')
        .is_some_and(|place| !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_digit()))
        && name.len() < COMPUTED_LENGTH
}

/// Length of a computed column's name: `_` and the hash of what is computed, in hexadecimal.
const COMPUTED_LENGTH: usize = 17;

/// `input`, its computed columns called as in stores of earlier versions.
pub(crate) fn placed_input(input: &StreamSchema) -> StreamSchema {
    let columns = input.columns.iter().enumerate().map(|(at, column)| {
        match computed(&column.name).is_some() {
            true => Column {
                name: format!("_{at}").into(),
                ..column.clone()
            },
            false => column.clone(),
        }
    });
    StreamSchema {
        columns: columns.collect(),
        ..input.clone()
    }
}

/// What the name of a computed column says, without what tells several of one expression apart; nothing
/// if it is the name of another column.
fn computed(name: &str) -> Option<&str> {
    let (what, again) = name.split_at_checked(COMPUTED_LENGTH)?;
    let hash = what.strip_prefix('_')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let known = hash
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && (again.is_empty() || again.strip_prefix('_').is_some_and(is_number));
    known.then_some(what)
}

/// A label, whichever of several columns of one expression it is of.
fn meaning(label: &str) -> String {
    let words = label.split(' ').map(|word| match word.split_once(':') {
        Some((name, of)) => format!("{}:{of}", computed(name).unwrap_or(name)),
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Takes over the accumulators that old and new measures have in common.
#[derive(Debug)]
pub(crate) struct Takeover {
    outcome: String,
    old: Layout,
    new: Layout,
    /// Words of a new slot.
    initial: Vec<u64>,
    /// Words that go on: from, to, how many.
    words: Vec<(usize, usize, usize)>,
    /// Entries of the payload that go on: from and to.
    texts: Vec<(usize, usize)>,
    /// Bits of accumulators that go on: before and now.
    bits: Vec<(u64, u64)>,
    /// Bits of accumulators that are new.
    unknown: u64,
}

impl Takeover {
    /// From an old shape to `new` measures, named by `labels`, from which the aggregates `asked`
    /// get their results; nothing if that cannot be.
    pub(crate) fn new(
        old: &Shape,
        new: &Measures,
        labels: &[String],
        asked: &[Function],
    ) -> Option<Self> {
        let mut this = Self {
            outcome: String::new(),
            old: old.measures.layout(),
            new: new.layout(),
            initial: initial_words(new),
            words: Vec::new(),
            texts: Vec::new(),
            bits: Vec::new(),
            unknown: 0,
        };
        let were: Vec<String> = old.labels.iter().map(|label| meaning(label)).collect();
        let are: Vec<String> = labels.iter().map(|label| meaning(label)).collect();
        for (number, function) in new.accumulators() {
            let is = are.get(number)?;
            // Of two that mean the same, the one at the same place: fingerprints bear the number.
            let has = |&at: &usize| were.get(at) == Some(is) && old.measures.has(at, function);
            let before = Some(number)
                .filter(has)
                .or_else(|| (0..were.len()).find(has));
            let counted = (asked.iter().zip(&new.of_aggregate))
                .any(|(&asked, &at)| at == number && asked == Function::Count);
            match before {
                Some(before) => this.keep((&old.measures, before), (new, number), function)?,
                None if function == Function::CountDistinct => return None,
                None if function == Function::Count && (counted || were.contains(is)) => {
                    return None;
                }
                None => this.unknown |= new.unknown_bit(number, function)?,
            }
        }
        for (measure, is) in new.list.iter().zip(&are) {
            let before = were.iter().position(|was| was == is);
            let before = before.and_then(|at| old.measures.list.get(at));
            // Which of the rows have a value was counted, and no longer is.
            if measure.count == ROWS && before.is_some_and(|before| before.count != ROWS) {
                return None;
            }
        }
        this.outcome = match this.unknown.count_ones() {
            0 => "keeps the accumulators that it still needs".to_owned(),
            _ => "keeps the accumulators that it still needs; new ones are null for the keys and \
                  windows that have rows already"
                .to_owned(),
        };
        Some(this)
    }

    fn keep(
        &mut self,
        (old, before): (&Measures, usize),
        (new, number): (&Measures, usize),
        function: Function,
    ) -> Option<()> {
        // The fingerprints of distinct values bear the number of their measure.
        if function == Function::CountDistinct && before != number {
            return None;
        }
        let (from, _) = old.list.get(before)?.place(function)?;
        let (to, width) = new.list.get(number)?.place(function)?;
        match width {
            0 => self.texts.push((from, to)),
            width => self.words.push((from, to, width)),
        }
        let bit = |measures: &Measures, at| measures.unknown_bit(at, function).unwrap_or(0);
        self.bits.push((bit(old, before), bit(new, number)));
        Some(())
    }

    /// The words of a slot, as they were, in the new layout.
    fn words(&self, old: &[u64], new: &mut [u64]) -> Option<()> {
        new.copy_from_slice(&self.initial);
        for &(from, to, width) in &self.words {
            (new.get_mut(to..to + width)?).copy_from_slice(old.get(from..from + width)?);
        }
        let old = *old.get(ROWS)?;
        let kept = self.bits.iter().filter(|(before, _)| old & before != 0);
        let unknown = kept.fold(self.unknown, |all, (_, now)| all | now);
        *new.get_mut(ROWS)? = rows(old) | unknown;
        Some(())
    }
}

impl Migration for Takeover {
    fn outcome(&self) -> &str {
        &self.outcome
    }

    fn migrate(&self, sections: &[Section]) -> Result<Vec<Section>, Fault> {
        let Some(group) = sections.first().map(|section| usize::from(section.group)) else {
            return Ok(Vec::new());
        };
        let mut fired = Register::new(START_OF_TIME);
        let mut distinct = FingerprintSet::new(false);
        let mut closed = Register::new(START_OF_TIME);
        let mut old = KeyedTable::new(self.old);
        let parts: &mut [&mut dyn Part] = &mut [&mut fired, &mut old, &mut distinct, &mut closed];
        for section in sections {
            Sections::restore_versions(section, parts, &PARTS)?;
        }
        let mut new = KeyedTable::new(self.new);
        let mut payload = Vec::new();
        for (start, pane) in old.panes() {
            let mut into = new.pane_mut(start);
            for entry in pane.sorted() {
                let (slot, _) = into.touch(&Key::new(entry.hash, entry.key.as_slice()));
                self.words(entry.words, into.words_mut(slot))
                    .ok_or_else(|| Fault::bug("a window's layout is not that of its shape"))?;
                for &(from, to) in &self.texts {
                    if let Some(text) = text(entry.payload, from) {
                        replace_text(into.as_ref().payload(slot), to, text, &mut payload);
                        into.set_payload(slot, &payload);
                    }
                }
            }
        }
        let parts: &mut [&mut dyn Part] = &mut [&mut fired, &mut new, &mut distinct, &mut closed];
        let mut writing = Sections::of_version(group..group + 1, VERSION);
        writing.freeze(true, parts);
        let mut migrated = Vec::new();
        while !writing.drain(usize::MAX, &mut migrated, parts) {}
        Ok(migrated)
    }
}

#[cfg(test)]
mod tests {
    use super::computed;

    #[test]
    fn columns_of_the_user_are_not_taken_for_computed_ones() {
        let what = "_00000000000000c4";
        assert_eq!(computed(what), Some(what));
        assert_eq!(computed("_00000000000000c4_12"), Some(what));
        for other in [
            "_7",
            "_request_latency_ms",
            "_00000000000000c4x",
            "_00000000000000c4_",
            "_00000000000000C4",
            "000000000000000c4",
        ] {
            assert_eq!(computed(other), None, "{other}");
        }
    }
}
