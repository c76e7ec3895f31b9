//! Dead letters on their way: from what an operator gave up on to rows of a stream.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::{
    ArrayRef, Int64Builder, RecordBatch, StringViewBuilder, TimestampMillisecondBuilder,
    UInt64Builder,
};
use thalweg_stream::dead_letter::{self, Remains, RowRenderer};
use thalweg_stream::{DeadLetter, Fault, Origin, SplitId};

use crate::failure::Place;
use crate::graph::OnError;

/// A source's name and its split's.
type SplitName = (Arc<str>, Arc<str>);

/// The splits of a job by number, to name where a dead letter came from. One is named before any
/// worker reads it.
#[derive(Debug, Default)]
pub(crate) struct SplitNames(RwLock<BTreeMap<u32, SplitName>>);

impl SplitNames {
    pub(crate) fn name(&self, split: SplitId, source: Arc<str>, name: Arc<str>) {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        names.insert(split.0, (source, name));
    }

    pub(crate) fn of(&self, origin: Origin) -> Option<SplitName> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.get(&origin.split()?.0).cloned()
    }
}

/// Turns the dead letters of one step into rows.
#[derive(Clone)]
pub(crate) struct Letters {
    step: Arc<str>,
    job: Arc<str>,
    on_error: OnError,
    splits: Arc<SplitNames>,
    renderer: Arc<dyn RowRenderer>,
}

impl Letters {
    pub(crate) fn new(
        step: Arc<str>,
        job: Arc<str>,
        on_error: OnError,
        splits: Arc<SplitNames>,
        renderer: Arc<dyn RowRenderer>,
    ) -> Self {
        Self {
            step,
            job,
            on_error,
            splits,
            renderer,
        }
    }

    /// The same for another step.
    pub(crate) fn named(&self, step: &str) -> Self {
        Self {
            step: step.into(),
            ..self.clone()
        }
    }

    pub(crate) fn step(&self) -> &str {
        &self.step
    }

    /// The records that `rows` were made of, if they are of one split.
    pub(crate) fn place_of(&self, rows: &RecordBatch) -> Option<Place> {
        Place::of(rows, &self.splits)
    }

    /// The records of a split from one offset up to, but without, another.
    pub(crate) fn place_between(&self, split: SplitId, from: u64, end: u64) -> Option<Place> {
        Place::between(split.0, from, end.saturating_sub(1).max(from), &self.splits)
    }

    /// The letters as a batch of [`dead_letter::schema`], or nothing if there are none to keep.
    ///
    /// # Errors
    /// The first letter, if the step fails on errors.
    pub(crate) fn batch(&self, letters: &[DeadLetter]) -> Result<Option<RecordBatch>, Fault> {
        match (self.on_error, letters.first()) {
            (_, None) | (OnError::Skip, _) => Ok(None),
            (OnError::Fail, Some(letter)) => Err(Fault::user(format!(
                "step \"{}\" fails on a record ({}): {}: {}",
                self.step,
                self.place(letter.origin),
                letter.code,
                letter.message
            ))),
            (OnError::DeadLetter, Some(_)) => {
                let ids = letters.iter().map(|letter| self.id(letter)).collect();
                self.rows(letters, ids).map(Some)
            }
        }
    }

    /// Letters whose ids are given: those from publishing.
    pub(crate) fn rows(
        &self,
        letters: &[DeadLetter],
        ids: Vec<String>,
    ) -> Result<RecordBatch, Fault> {
        let mut at = TimestampMillisecondBuilder::new().with_timezone("UTC");
        let mut offset = Int64Builder::new();
        let mut origin = UInt64Builder::new();
        let text = |value: &dyn Fn(&DeadLetter) -> Option<String>| -> ArrayRef {
            texts(&letters.iter().map(value).collect::<Vec<_>>())
        };
        for letter in letters {
            at.append_option(letter.event_time);
            let place = letter.origin.split().map(|_| letter.origin.offset());
            offset.append_option(place.and_then(|o| i64::try_from(o).ok()));
            origin.append_value(letter.origin.0);
        }
        let ids: Vec<_> = ids.into_iter().map(Some).collect();
        let columns: Vec<ArrayRef> = vec![
            texts(&ids),
            text(&|l| Some(l.class.word().to_owned())),
            text(&|l| Some(l.code.to_owned())),
            text(&|l| Some(l.message.clone())),
            text(&|_| Some(self.step.to_string())),
            text(&|l| {
                self.splits
                    .of(l.origin)
                    .map(|(source, _)| source.to_string())
            }),
            text(&|l| self.splits.of(l.origin).map(|(_, split)| split.to_string())),
            Arc::new(offset.finish()),
            Arc::new(at.finish()),
            text(&raw_text),
            text(&raw_base64),
            text(&|l| self.row_json(l)),
            text(&|l| l.plugin.as_deref().map(str::to_owned)),
            text(&|_| Some(self.job.to_string())),
            Arc::new(origin.finish()),
        ];
        Ok(RecordBatch::try_new(
            dead_letter::schema().arrow(),
            columns,
        )?)
    }

    /// Unique and the same in every replay: where the record is from and who gave up on it.
    fn id(&self, letter: &DeadLetter) -> String {
        let hash = thalweg_stream::key::hash(letter.message.as_bytes());
        format!(
            "{}-{:016x}-{}-{:08x}",
            self.step, letter.origin.0, letter.code, hash as u32
        )
    }

    fn place(&self, origin: Origin) -> String {
        match self.splits.of(origin) {
            Some((source, split)) => {
                format!(
                    "source \"{source}\", split \"{split}\", offset {}",
                    origin.offset()
                )
            }
            None => "a derived row".to_owned(),
        }
    }

    fn row_json(&self, letter: &DeadLetter) -> Option<String> {
        match &letter.remains {
            Remains::Bytes(_) => None,
            Remains::Row { batch, row } => Some(self.renderer.render(batch, *row)),
            Remains::Json(text) => Some(text.clone()),
        }
    }
}

/// A column of texts that takes no more memory than they do: most batches of letters are small.
fn texts(values: &[Option<String>]) -> ArrayRef {
    let bytes: usize = values.iter().flatten().map(String::len).sum();
    let block = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
    let mut column = StringViewBuilder::with_capacity(values.len()).with_fixed_block_size(block);
    values
        .iter()
        .for_each(|value| column.append_option(value.as_deref()));
    Arc::new(column.finish())
}

fn raw_text(letter: &DeadLetter) -> Option<String> {
    match &letter.remains {
        Remains::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Remains::Row { .. } | Remains::Json(_) => None,
    }
}

fn raw_base64(letter: &DeadLetter) -> Option<String> {
    match &letter.remains {
        Remains::Bytes(bytes) if std::str::from_utf8(bytes).is_err() => Some(base64(bytes)),
        Remains::Bytes(_) | Remains::Row { .. } | Remains::Json(_) => None,
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
