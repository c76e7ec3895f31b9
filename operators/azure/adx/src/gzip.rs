//! One gzip file out of pieces that were compressed apart.
//!
//! Staged objects are raw deflate streams that end at a byte boundary without a final block, so
//! that a header, the pieces one after the other, a final empty block and a trailer are *one*
//! gzip member (RFC 1951 §3.2.3, RFC 1952 §2.3; the trick of pigz). Nothing is compressed twice,
//! and the service's reader need not understand files of several members.

use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress};
use serde::{Deserialize, Serialize};

/// Magic, deflate, no flags, no time, no extra flags, unknown system.
pub(crate) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A final block of fixed codes that holds only its end.
const FINAL_BLOCK: [u8; 2] = [0x03, 0x00];

/// What must be known of a piece to put it into a file; stands in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// Bytes before compression.
    pub(crate) raw: u64,
    /// CRC-32 of these.
    pub(crate) raw_crc32: u32,
}

/// The end of an empty stored block: its length, and the complement of that.
const BOUNDARY: [u8; 4] = [0, 0, 0xff, 0xff];
/// Room for output that the compressor is given at a time (bytes).
const ROOM_BYTES: usize = 32 << 10;

/// Compresses one piece.
///
/// It drives the compressor itself: flate2's writer takes a flush for done that is not.
#[derive(Debug)]
pub(crate) struct PieceWriter {
    compress: Compress,
    bytes: Vec<u8>,
    crc: Hasher,
    raw: u64,
}

impl PieceWriter {
    pub(crate) fn new() -> Self {
        Self {
            compress: Compress::new(Compression::fast(), false),
            bytes: Vec::new(),
            crc: Hasher::new(),
            raw: 0,
        }
    }

    pub(crate) fn write(&mut self, raw: &[u8]) -> std::io::Result<()> {
        let mut rest = raw;
        while !rest.is_empty() {
            let before = self.compress.total_in();
            self.call(rest, FlushCompress::None)?;
            let taken = self.compress.total_in() - before;
            let taken = usize::try_from(taken).unwrap_or(rest.len());
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.crc.update(raw);
        self.raw += raw.len() as u64;
        Ok(())
    }

    /// One call of the compressor. True if it had room left: it then has no output pending.
    fn call(&mut self, raw: &[u8], flush: FlushCompress) -> std::io::Result<bool> {
        self.bytes.reserve(ROOM_BYTES);
        self.compress.compress_vec(raw, &mut self.bytes, flush)?;
        Ok(self.bytes.len() < self.bytes.capacity())
    }

    /// Bytes before compression so far.
    pub(crate) fn raw(&self) -> u64 {
        self.raw
    }

    /// Bytes after compression so far.
    pub(crate) fn compressed(&self) -> usize {
        self.bytes.len()
    }

    /// Ends the piece at a byte boundary, and starts afresh.
    pub(crate) fn take(&mut self) -> std::io::Result<(Vec<u8>, Piece)> {
        // A flush ends the current block and appends an empty stored one, which is byte-aligned.
        // A call that begins with output pending only hands that out, and flushes nothing: the one
        // that counts begins with none, and leaves none.
        let mut calls_with_room = 0;
        while calls_with_room < 2 {
            let room = self.call(&[], FlushCompress::Sync)?;
            calls_with_room = if room { calls_with_room + 1 } else { 0 };
        }
        if !self.bytes.ends_with(&BOUNDARY) {
            return Err(std::io::Error::other("a flush has not ended its block"));
        }
        let done = std::mem::replace(self, Self::new());
        let piece = Piece {
            raw: done.raw,
            raw_crc32: done.crc.finalize(),
        };
        Ok((done.bytes, piece))
    }
}

/// What follows the pieces of a file.
pub(crate) fn trailer(pieces: impl IntoIterator<Item = Piece>) -> [u8; 10] {
    let mut crc = Hasher::new();
    let mut raw: u64 = 0;
    for piece in pieces {
        crc.combine(&Hasher::new_with_initial_len(piece.raw_crc32, piece.raw));
        raw = raw.wrapping_add(piece.raw);
    }
    let [f0, f1] = FINAL_BLOCK;
    let [c0, c1, c2, c3] = crc.finalize().to_le_bytes();
    // The length is kept modulo 2³².
    let [l0, l1, l2, l3, ..] = raw.to_le_bytes();
    [f0, f1, c0, c1, c2, c3, l0, l1, l2, l3]
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::{HEADER, PieceWriter, trailer};

    #[test]
    fn pieces_are_one_member_that_a_strict_reader_accepts() {
        for lengths in [vec![], vec![0], vec![1], vec![70_000, 0, 3, 400_000]] {
            let mut writer = PieceWriter::new();
            let (mut file, mut plain, mut pieces) = (HEADER.to_vec(), Vec::new(), Vec::new());
            for (at, length) in lengths.iter().enumerate() {
                let raw: Vec<u8> = (0..*length).map(|i| ((i * i + at) % 251) as u8).collect();
                for part in raw.chunks(1000) {
                    writer.write(part).expect("in memory");
                }
                plain.extend_from_slice(&raw);
                let (bytes, piece) = writer.take().expect("in memory");
                assert_eq!(piece.raw, *length as u64);
                file.extend_from_slice(&bytes);
                pieces.push(piece);
            }
            file.extend_from_slice(&trailer(pieces));
            let mut reader = GzDecoder::new(&file[..]);
            let mut read = Vec::new();
            reader
                .read_to_end(&mut read)
                .expect("valid, checksum and length too");
            assert_eq!(read, plain);
            assert!(
                reader.into_inner().is_empty(),
                "nothing is left behind the member"
            );
        }
    }

    #[test]
    fn a_piece_ends_where_it_is_cut_however_full_the_compressor_is() {
        // Text as rows have it: half of it repeats, half is digits that do not.
        let mut random = 7_u64;
        let mut text = Vec::new();
        while text.len() < 600_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let row = format!(
                "{{\"vehicle_id\":\"veh-{}\",\"risk\":{}}}\n",
                random >> 54,
                random
            );
            text.extend_from_slice(row.as_bytes());
        }
        for length in (1_000..600_000).step_by(2_957) {
            let raw = text.get(..length).expect("shorter");
            let mut writer = PieceWriter::new();
            for part in raw.chunks(262_144) {
                writer.write(part).expect("in memory");
            }
            let (bytes, piece) = writer.take().expect("in memory");
            assert!(
                bytes.ends_with(&[0, 0, 0xff, 0xff]),
                "{length}: no boundary"
            );
            let file = [&HEADER[..], &bytes, &trailer([piece])].concat();
            let mut read = Vec::new();
            let reader = GzDecoder::new(&file[..]).read_to_end(&mut read);
            reader.unwrap_or_else(|error| panic!("{length}: {error}"));
            assert_eq!(read, raw, "{length}");
        }
    }

    #[test]
    fn pieces_of_any_length_end_at_a_boundary() {
        let mut state = 1_u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 11
        };
        for lines in (1..4_000).step_by(197) {
            let mut raw = Vec::new();
            for _ in 0..lines {
                let line = format!("{{\"a\":{},\"b\":0.{}}}\n", random() % 10, random());
                raw.extend_from_slice(line.as_bytes());
            }
            let mut writer = PieceWriter::new();
            writer.write(&raw).expect("in memory");
            let (bytes, piece) = writer.take().expect("ended at a boundary");
            let file = [&HEADER[..], &bytes, &trailer([piece])].concat();
            let mut read = Vec::new();
            let done = GzDecoder::new(&file[..]).read_to_end(&mut read);
            assert!(done.is_ok() && read == raw, "{lines} lines: {done:?}");
        }
    }

    #[test]
    fn a_damaged_piece_is_noticed() {
        let mut writer = PieceWriter::new();
        writer.write(b"hello").expect("in memory");
        let (bytes, mut piece) = writer.take().expect("in memory");
        piece.raw_crc32 ^= 1;
        let file = [&HEADER[..], &bytes, &trailer([piece])].concat();
        assert!(
            GzDecoder::new(&file[..])
                .read_to_end(&mut Vec::new())
                .is_err()
        );
    }
}
