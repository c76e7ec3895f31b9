//! Cuts a unit into parts, each of which becomes one blob under one tag.
//!
//! The cut is a function of the manifest alone, so that every process that publishes the unit
//! makes the same blobs with the same names and tags.

use thalweg_stream::sink::{PublishUnit, SinkContext, StagedObject};
use thalweg_stream::{Epoch, Fault};

use crate::gzip::Piece;

/// Most bytes of a blob before compression: the service advises 100 MB to 1 GB.
const RAW_BYTES_MAX: u64 = 1_000_000_000;

/// One blob to be.
#[derive(Debug)]
pub(crate) struct Part<'u> {
    /// Its tag without `ingest-by:`, for ever the same for these rows.
    pub(crate) tag: String,
    /// Its blobs' names without attempt and suffix.
    stem: String,
    /// What it is made of, in order.
    pub(crate) objects: &'u [StagedObject],
    /// The writer's note of each.
    pub(crate) pieces: Vec<Piece>,
    /// Bytes before compression.
    pub(crate) raw_bytes: u64,
    /// Rows in it.
    pub(crate) rows: u64,
}

impl Part<'_> {
    /// The name of the blob of attempt `number`: the attempt is part of the name, so that no
    /// attempt can overwrite another's blob, and not of the tag.
    pub(crate) fn blob(&self, number: u32) -> String {
        format!("{}-a{number}.json.gz", self.stem)
    }
}

/// The parts of `unit`.
///
/// # Errors
/// Corrupt, if a note in the manifest is not ours.
pub(crate) fn parts<'u>(
    unit: &'u PublishUnit,
    context: &SinkContext,
) -> Result<Vec<Part<'u>>, Fault> {
    let mut pieces = Vec::with_capacity(unit.objects.len());
    for object in &unit.objects {
        let piece: Piece = serde_json::from_value(object.note.clone()).map_err(|error| {
            Fault::corrupt(format!("staged object {:?}: note: {error}", object.name))
        })?;
        pieces.push(piece);
    }
    let mut parts: Vec<Part<'u>> = Vec::new();
    let mut begin = 0;
    let mut raw_bytes: u64 = 0;
    for (at, piece) in pieces.iter().enumerate() {
        if at > begin && raw_bytes.saturating_add(piece.raw) > RAW_BYTES_MAX {
            parts.push(part(unit, &pieces, begin..at, parts.len(), context)?);
            (begin, raw_bytes) = (at, 0);
        }
        raw_bytes = raw_bytes.saturating_add(piece.raw);
    }
    if begin < pieces.len() {
        parts.push(part(
            unit,
            &pieces,
            begin..pieces.len(),
            parts.len(),
            context,
        )?);
    }
    // Nothing to ingest is nothing to ask for: the service refuses empty blobs.
    parts.retain(|part| part.rows > 0);
    Ok(parts)
}

fn part<'u>(
    unit: &'u PublishUnit,
    pieces: &[Piece],
    range: std::ops::Range<usize>,
    number: usize,
    context: &SinkContext,
) -> Result<Part<'u>, Fault> {
    let (Some(objects), Some(pieces)) = (unit.objects.get(range.clone()), pieces.get(range)) else {
        return Err(Fault::bug("a unit is cut outside of itself"));
    };
    let SinkContext { job, sink, .. } = context;
    let (lineage, Epoch(epoch)) = (&unit.lineage, unit.epoch);
    Ok(Part {
        // The sink's name rather than the table's: two sinks of a job may feed one table, and
        // their tags must differ.
        tag: format!("{job}/{lineage}/{sink}/{epoch}/{number}"),
        stem: format!("{job}/{lineage}/{sink}/e{epoch}/{number}"),
        objects,
        pieces: pieces.to_vec(),
        raw_bytes: pieces.iter().map(|piece| piece.raw).sum(),
        rows: objects.iter().map(|object| object.rows).sum(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use thalweg_stream::clock::SystemClock;
    use thalweg_stream::sink::{PublishUnit, SinkContext, StagedObject};
    use thalweg_stream::{Epoch, Generation, Lineage};

    use super::parts;

    fn context() -> SinkContext {
        SinkContext {
            job: "job".into(),
            sink: "history".into(),
            lineage: Lineage("0123456789ab".to_owned()),
            generation: Generation(3),
            clock: Arc::new(SystemClock::new()),
            state: serde_json::Value::Null,
        }
    }

    fn unit(raw: &[u64]) -> PublishUnit {
        let objects = raw.iter().enumerate().map(|(at, raw)| StagedObject {
            name: format!("history/7-0-{at}-g3"),
            epoch: Epoch(7),
            worker: 0,
            sequence: at as u32,
            bytes: 10,
            crc32: 0,
            rows: 2,
            note: json!({ "raw": raw, "raw_crc32": 1 }),
        });
        PublishUnit {
            lineage: context().lineage,
            epoch: Epoch(7),
            objects: objects.collect(),
        }
    }

    #[test]
    fn parts_hold_whole_objects_and_at_most_a_gigabyte() {
        let big = 600_000_000;
        for (raw, expected) in [
            (vec![], vec![]),
            (vec![5], vec![1]),
            (vec![5, 6, 7], vec![3]),
            (vec![big, big, 1], vec![1, 2]),
            (vec![2 * big, 1, 2 * big], vec![1, 1, 1]),
        ] {
            let unit = unit(&raw);
            let parts = parts(&unit, &context()).expect("notes are ours");
            let counts: Vec<usize> = parts.iter().map(|p| p.objects.len()).collect();
            assert_eq!(counts, expected, "{raw:?}");
        }
    }

    #[test]
    fn names_are_stable() {
        let unit = unit(&[1]);
        let parts = parts(&unit, &context()).expect("notes are ours");
        let part = parts.first().expect("one part");
        assert_eq!(part.tag, "job/0123456789ab/history/7/0");
        assert_eq!(part.blob(2), "job/0123456789ab/history/e7/0-a2.json.gz");
        assert_eq!((part.rows, part.raw_bytes), (2, 1));
    }

    #[test]
    fn a_foreign_note_is_corrupt() {
        let mut unit = unit(&[1]);
        unit.objects[0].note = json!(null);
        let fault = parts(&unit, &context()).expect_err("no note");
        assert_eq!(fault.class, thalweg_stream::Class::Corrupt);
    }
}
