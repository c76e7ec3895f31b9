//! The stamp every document carries, and the one decision it serves: may this write replace that
//! document?

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thalweg_stream::planted::planted;

/// The field of a document that holds its stamp. Readers skip documents whose stamp says
/// `deleted`.
pub const STAMP_FIELD: &str = "_thalweg";
/// The format of stamps.
const VERSION: u64 = 1;

/// Who wrote a document, and which row it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Format of the stamp.
    pub v: u64,
    /// The job.
    pub job: String,
    /// Its sink.
    pub sink: String,
    /// The line of history.
    pub lineage: String,
    /// The start of the job that wrote it.
    pub generation: u64,
    /// When that start connected, milliseconds since the Unix epoch by its own clock. Only used
    /// to compare histories, which have nothing else in common.
    pub started_ms: i64,
    /// The checkpoint that staged the row.
    pub epoch: u64,
    /// Which of the staging worker's objects of that checkpoint it was in.
    pub part: u32,
    /// How new the row is, in hexadecimal.
    pub order: String,
    /// Whether the row deletes the document: it then has no other columns, and a `ttl`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// Who writes: the part of a stamp that is the same for all documents.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub(crate) job: String,
    pub(crate) sink: String,
    pub(crate) lineage: String,
    pub(crate) generation: u64,
    pub(crate) started_ms: i64,
}

impl Writer {
    /// The stamp of one row.
    pub(crate) fn stamp(&self, epoch: u64, part: u32, order: String, deleted: bool) -> Stamp {
        Stamp {
            v: VERSION,
            job: self.job.clone(),
            sink: self.sink.clone(),
            lineage: self.lineage.clone(),
            generation: self.generation,
            started_ms: self.started_ms,
            epoch,
            part,
            order,
            deleted,
        }
    }
}

/// Whose stamp a document carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// None that is ours to understand.
    None,
    /// One of ours.
    Stamp(Box<Stamp>),
    /// One of a later version of Thalweg.
    Newer(u64),
}

impl Carried {
    /// Reads the stamp field of a document.
    pub(crate) fn read(field: Option<&Value>) -> Self {
        let Some(field) = field else {
            return Self::None;
        };
        match field.get("v").and_then(Value::as_u64) {
            Some(version) if version > VERSION => Self::Newer(version),
            // What does not read as a stamp was put there by somebody else.
            _ => Stamp::deserialize(field).map_or(Self::None, |s| Self::Stamp(Box::new(s))),
        }
    }
}

/// What is to become of a write, given the stamp of the document that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The document is older, or of somebody else: replace it.
    Replace,
    /// The document is what we were about to write: done.
    Same,
    /// The document is newer: drop the row.
    Superseded,
    /// A newer start of our job has written it: stop.
    Fenced,
}

impl Stamp {
    /// Decides whether a write with this stamp may replace a document that carries `there`.
    ///
    /// Within one lineage a higher generation always fences, whatever the document holds: it has
    /// been given the same staged output as we, and publishes it. Otherwise the row that is
    /// greater by (order, epoch, part) stays, whoever wrote it; since that is a total order over
    /// all rows of a document, writers may repeat and overtake each other, and the document ends
    /// at the greatest.
    ///
    /// Rows of different lineages do not compare: the history that started from an older
    /// checkpoint means to overwrite. It is told from one that was thought dead by both its
    /// generation (the same store counts on) and its start time: only if *both* are higher there,
    /// we are the old one.
    #[must_use]
    pub fn judge(&self, there: &Self) -> Verdict {
        if (&self.job, &self.sink) != (&there.job, &there.sink) {
            return Verdict::Replace;
        }
        if self.lineage != there.lineage {
            let newer = there.generation > self.generation && there.started_ms > self.started_ms;
            return if newer {
                Verdict::Fenced
            } else {
                Verdict::Replace
            };
        }
        if there.generation > self.generation && !planted("ignore-generation") {
            return Verdict::Fenced;
        }
        match self.content().cmp(&there.content()) {
            std::cmp::Ordering::Greater => Verdict::Replace,
            std::cmp::Ordering::Equal => Verdict::Same,
            std::cmp::Ordering::Less => Verdict::Superseded,
        }
    }

    fn content(&self) -> (&str, u64, u32) {
        (&self.order, self.epoch, self.part)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{Carried, Stamp, Verdict, Writer};

    fn stamp(lineage: &str, generation: u64, started_ms: i64, order: &str, epoch: u64) -> Stamp {
        let writer = Writer {
            job: "j".into(),
            sink: "s".into(),
            lineage: lineage.into(),
            generation,
            started_ms,
        };
        writer.stamp(epoch, 0, order.into(), false)
    }

    #[test]
    fn verdicts_are_those_of_the_protocol() {
        use Verdict::{Fenced, Replace, Same, Superseded};
        let ours = stamp("a", 2, 100, "05", 7);
        let cases = [
            (
                stamp("a", 2, 100, "04", 9),
                Replace,
                "older row of a later epoch",
            ),
            (
                stamp("a", 1, 50, "05", 6),
                Replace,
                "same order, earlier epoch",
            ),
            (stamp("a", 2, 100, "05", 7), Same, "our own write"),
            (
                stamp("a", 1, 50, "05", 7),
                Same,
                "written by the generation before",
            ),
            (
                stamp("a", 2, 100, "06", 3),
                Superseded,
                "newer row of an earlier epoch",
            ),
            (
                stamp("a", 2, 100, "05", 8),
                Superseded,
                "same order, later epoch",
            ),
            (
                stamp("a", 3, 200, "04", 6),
                Fenced,
                "a later start, though its row is older",
            ),
            (stamp("b", 1, 50, "09", 9), Replace, "an older history"),
            (
                stamp("b", 9, 50, "09", 9),
                Replace,
                "a history of a store that was deleted",
            ),
            (
                stamp("b", 1, 200, "09", 9),
                Replace,
                "an older history by a fast clock",
            ),
            (stamp("b", 3, 200, "01", 1), Fenced, "a later history"),
        ];
        for (there, verdict, why) in cases {
            assert_eq!(ours.judge(&there), verdict, "{why}");
        }
        let mut other = stamp("a", 9, 900, "09", 9);
        other.sink = "other".into();
        assert_eq!(ours.judge(&other), Replace, "another sink's document");
    }

    #[test]
    fn only_later_formats_are_refused() {
        let ours = stamp("a", 1, 1, "01", 1);
        let field = serde_json::to_value(&ours).expect("a stamp");
        assert_eq!(Carried::read(Some(&field)), Carried::Stamp(Box::new(ours)));
        assert_eq!(Carried::read(None), Carried::None);
        assert_eq!(Carried::read(Some(&json!("text"))), Carried::None);
        assert_eq!(Carried::read(Some(&json!({ "v": 2 }))), Carried::Newer(2));
    }

    proptest! {
        /// Whatever is written in whatever order, and however often, the greatest stays.
        #[test]
        fn documents_end_at_the_greatest_row(
            rows in prop::collection::vec((0_u8..4, 1_u64..4), 1..8),
            attempts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let stamps: Vec<Stamp> = rows
                .iter()
                .map(|(order, epoch)| stamp("a", 1, 1, &format!("{order:02x}"), *epoch))
                .collect();
            let mut document: Option<Stamp> = None;
            let again = attempts.iter().map(|at| at.get(&stamps));
            for ours in again.chain(&stamps) {
                let verdict = document.as_ref().map_or(Verdict::Replace, |there| ours.judge(there));
                if verdict == Verdict::Replace {
                    document = Some(ours.clone());
                }
            }
            let greatest = stamps.iter().max_by_key(|s| (s.order.clone(), s.epoch)).cloned();
            prop_assert_eq!(document, greatest);
        }
    }
}
