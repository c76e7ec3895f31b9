//! Taking chunks apart into records, where one of them is suspected of ending attempts.

use arrow::array::ArrayRef;
use thalweg_stream::{Chunk, Framing};

use crate::failure::Place;

/// The chunk, or its records one by one if the suspect may be among them.
pub(crate) fn apart(chunk: Chunk, suspect: Option<&Place>) -> Vec<Chunk> {
    let suspected = suspect.is_some_and(|place| {
        place.number == chunk.split.0 && place.from < chunk.end && chunk.start <= place.to
    });
    match suspected {
        true => records(&chunk),
        false => vec![chunk],
    }
}

/// Every record of a chunk as a chunk of its own.
fn records(chunk: &Chunk) -> Vec<Chunk> {
    match &chunk.framing {
        Framing::Lines => {
            let mut lines = Vec::new();
            let (mut from, mut records) = (0, 0);
            while from < chunk.bytes.len() {
                let rest = chunk.bytes.get(from..).unwrap_or_default();
                let length = rest.iter().position(|&byte| byte == b'\n');
                let to = length.map_or(chunk.bytes.len(), |length| from + length + 1);
                let line = chunk.bytes.slice(from..to);
                let content = line.strip_suffix(b"\n").unwrap_or(&line);
                if !content.strip_suffix(b"\r").unwrap_or(content).is_empty() {
                    lines.push(Chunk {
                        start: chunk.start + from as u64,
                        end: chunk.start + to as u64,
                        bytes: line,
                        framing: Framing::Lines,
                        metadata: metadata(chunk, records),
                        ..*chunk
                    });
                    records += 1;
                }
                from = to;
            }
            lines
        }
        Framing::Records { ranges, offsets } => (ranges.iter().zip(offsets).enumerate())
            .map(|(record, (&range, &offset))| Chunk {
                start: offset,
                end: offset + 1,
                bytes: chunk.bytes.clone(),
                framing: Framing::Records {
                    ranges: vec![range],
                    offsets: vec![offset],
                },
                metadata: metadata(chunk, record),
                ..*chunk
            })
            .collect(),
    }
}

/// The metadata of one record: its own values, or those of the whole chunk.
fn metadata(chunk: &Chunk, record: usize) -> Vec<Option<ArrayRef>> {
    let of = |column: &ArrayRef| match column.len() {
        0 | 1 => column.slice(0, column.len()),
        length => column.slice(record.min(length - 1), 1),
    };
    (chunk.metadata.iter())
        .map(|column| column.as_ref().map(of))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray as _, Int64Array};
    use arrow::datatypes::Int64Type;
    use thalweg_stream::SplitId;

    use super::*;

    fn place(from: u64, to: u64) -> Place {
        Place {
            source: "s".into(),
            split: "p".into(),
            number: 3,
            from,
            to,
        }
    }

    fn chunk(framing: Framing) -> Chunk {
        Chunk {
            split: SplitId(3),
            start: 100,
            end: 111,
            bytes: "one\r\n\ntwo\n3".into(),
            framing,
            metadata: vec![None, Some(Arc::new(Int64Array::from(vec![7, 8, 9])))],
            read_at_ms: 0,
        }
    }

    fn seen(chunks: &[Chunk]) -> Vec<(u64, u64, i64)> {
        let value = |chunk: &Chunk| {
            let column = chunk.metadata[1].as_ref().expect("there");
            column.as_primitive::<Int64Type>().value(0)
        };
        let of = |chunk: &Chunk| (chunk.start, chunk.end, value(chunk));
        chunks.iter().map(of).collect()
    }

    #[test]
    fn chunks_come_apart_where_the_suspect_is() {
        let lines = || chunk(Framing::Lines);
        assert_eq!(apart(lines(), None).len(), 1);
        assert_eq!(apart(lines(), Some(&place(0, 99))).len(), 1);
        assert_eq!(apart(lines(), Some(&place(111, 200))).len(), 1);
        let single = apart(lines(), Some(&place(105, 105)));
        assert_eq!(seen(&single), [(100, 105, 7), (106, 110, 8), (110, 111, 9)]);
        let records = chunk(Framing::Records {
            ranges: vec![(0, 3), (6, 9), (10, 11)],
            offsets: vec![100, 104, 110],
        });
        let single = apart(records, Some(&place(90, 100)));
        assert_eq!(seen(&single), [(100, 101, 7), (104, 105, 8), (110, 111, 9)]);
    }
}
