//! A source of numbers, and what decodes them.

use super::*;

/// Numbers 0..count in each of `splits` splits, one text line a record; `bad` marks a bad one.
pub(crate) struct Numbers {
    pub(crate) splits: usize,
    pub(crate) count: u64,
    /// Records per chunk.
    pub(crate) chunk: u64,
    /// Never ends: waits at the end.
    pub(crate) endless: bool,
}

#[async_trait]
impl Source for Numbers {
    fn bounded(&self) -> bool {
        !self.endless
    }
    fn placement(&self) -> Placement {
        Placement::Spread
    }
    async fn discover(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let name = |n: usize| SplitSpec {
            name: format!("part {n}").into(),
            detail: ().into(),
        };
        let all: Vec<SplitSpec> = (0..self.splits).map(name).collect();
        assert!(known.is_empty() || known == all);
        Ok(all)
    }
    fn open(&self, splits: Vec<SplitStart>, _: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        let at = splits
            .iter()
            .map(|s| (s.id, s.offset.unwrap_or(0)))
            .collect();
        Ok(Box::new(NumberReader {
            at,
            count: self.count,
            chunk: self.chunk,
            endless: self.endless,
        }))
    }
}

pub(crate) struct NumberReader {
    pub(crate) at: BTreeMap<SplitId, u64>,
    pub(crate) count: u64,
    pub(crate) chunk: u64,
    pub(crate) endless: bool,
}

impl SplitReader for NumberReader {
    fn poll(&mut self, _: usize) -> Result<Option<Chunk>, Fault> {
        let Some((&split, at)) = self.at.iter_mut().min_by_key(|(_, at)| **at) else {
            return Ok(None);
        };
        if *at >= self.count {
            return Ok(None);
        }
        let (start, end) = (*at, (*at + self.chunk).min(self.count));
        *at = end;
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for number in start..end {
            let from = bytes.len() as u32;
            bytes.extend_from_slice(
                if number % 100 == 99 {
                    "bad".into()
                } else {
                    number.to_string()
                }
                .as_bytes(),
            );
            ranges.push((from, bytes.len() as u32));
        }
        let framing = Framing::Records {
            ranges,
            offsets: (start..end).collect(),
        };
        Ok(Some(Chunk {
            split,
            start,
            end,
            bytes: bytes.into(),
            framing,
            metadata: vec![],
            read_at_ms: 0,
        }))
    }
    fn status(&self, split: SplitId) -> SplitStatus {
        let left = self.count - self.at[&split];
        let state = match (left, self.endless) {
            (0, false) => SplitState::Finished,
            (0, true) => SplitState::AtEnd,
            _ => SplitState::Reading,
        };
        SplitStatus {
            state,
            behind: Some(left),
        }
    }
}

pub(crate) struct NumberDecoder;

impl DecoderFactory for NumberDecoder {
    fn schema(&self) -> StreamSchema {
        StreamSchema::append(vec![Column::new("n", ColumnType::Int64)], true)
    }
    fn build(&self) -> Result<Box<dyn Decoder>, Fault> {
        Ok(Box::new(Self))
    }
}

impl Decoder for NumberDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) -> Result<(), Fault> {
        let Framing::Records { ranges, offsets } = &chunk.framing else {
            panic!("records")
        };
        let (mut values, mut origins) = (Vec::new(), Vec::new());
        for (&(from, to), &offset) in ranges.iter().zip(offsets) {
            out.records += 1;
            let bytes = chunk.bytes.slice(from as usize..to as usize);
            let origin = Origin::new(chunk.split, offset).expect("small");
            match std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
            {
                Some(value) => {
                    values.push(value);
                    origins.push(origin.0);
                }
                None => out.dead.push(DeadLetter {
                    class: DeadClass::Decode,
                    code: "not-a-number",
                    message: "not a number".to_owned(),
                    origin,
                    event_time: None,
                    remains: thalweg_stream::dead_letter::Remains::Bytes(bytes),
                    plugin: None,
                }),
            }
        }
        out.newest_event_time = values.iter().max().copied();
        let times = TimestampMillisecondArray::from(values.clone()).with_timezone("UTC");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(values)),
            Arc::new(times),
            Arc::new(UInt64Array::from(origins)),
        ];
        out.batches
            .push(RecordBatch::try_new(self.schema().arrow(), columns)?);
        Ok(())
    }
}
