//! Frames: how bytes cross a connection so that damage, loss and an untimely end are noticed.
//!
//! A frame is a header of 24 bytes and its content. In the header, all little-endian: length of the
//! content (u32), kind (u8), three zero bytes, sequence number (u64, from 0), CRC-32 of the content, and
//! CRC-32 of the header before it. The header has its own so that a damaged length is not waited for.
//! Nothing is handed on before it is checked.

/// The most content of one frame: it is buffered until it is checked, and should not leave the cache.
pub const FRAME_BYTES_MAX: usize = 256 << 10;

pub(crate) const HEADER_BYTES: usize = 24;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes of the stream, or one message.
    Content,
    /// Nothing but a sign of life.
    Heartbeat,
    /// Nothing follows but heartbeats.
    End,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Content => 0,
            Self::Heartbeat => 1,
            Self::End => 2,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Content, Self::Heartbeat, Self::End]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// The header of a frame.
pub(crate) fn header(kind: Kind, sequence: u64, content: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    // Callers cut content at a maximum far below.
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4] = kind.code();
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..20].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
    let check = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&check.to_le_bytes());
    header
}

/// Why what came is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    #[error("the header of a frame fails its check")]
    Header,
    #[error("a frame fails its check")]
    Content,
    #[error("a frame of {0} bytes is too long")]
    Length(usize),
    #[error("frame {expected} is missing: frame {found} came")]
    Gap { expected: u64, found: u64 },
    #[error("something follows the end")]
    AfterEnd,
}

/// Puts together what a connection brings, into frames.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// What was read and is not taken yet is at `start..end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    content_max: usize,
    next: u64,
    ended: bool,
}

impl Assembly {
    /// Frames with no more than `content_max` bytes of content.
    pub(crate) fn new(content_max: usize) -> Self {
        Self {
            buffer: vec![0; 64 << 10],
            start: 0,
            end: 0,
            content_max,
            next: 0,
            ended: false,
        }
    }

    /// Where to read to: room for more of the frame that [`Self::frame`] has not seen all of.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let needed = self.frame_bytes().min(HEADER_BYTES + self.content_max);
        if self.start + needed > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let length = self.buffer.len().max(needed);
            self.buffer.resize(length, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// `count` bytes have been read into [`Self::space`].
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// Whether all that came has been taken as whole frames.
    pub(crate) fn between_frames(&self) -> bool {
        self.start == self.end
    }

    /// How many bytes the frame at the front has, as far as is known.
    fn frame_bytes(&self) -> usize {
        match self.buffer[self.start..self.end].first_chunk::<4>() {
            Some(length) => HEADER_BYTES + u32::from_le_bytes(*length) as usize,
            None => HEADER_BYTES,
        }
    }

    /// The next frame, checked, if all of it is here.
    ///
    /// # Errors
    /// It fails its check. The connection is of no use any more.
    pub(crate) fn frame(&mut self) -> Result<Option<(Kind, &[u8])>, Damage> {
        let waiting = self.end - self.start;
        let Some(header) = self.buffer[self.start..self.end].first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = *header;
        let (kind, length) = self.checked(&header)?;
        if waiting < HEADER_BYTES + length {
            return Ok(None);
        }
        let from = self.start + HEADER_BYTES;
        let content = &self.buffer[from..from + length];
        if crc32fast::hash(content).to_le_bytes() != header[16..20] {
            return Err(Damage::Content);
        }
        self.start = from + length;
        self.next += 1;
        self.ended |= kind == Kind::End;
        Ok(Some((kind, content)))
    }

    /// What a header says, once it is believed.
    fn checked(&self, header: &[u8; HEADER_BYTES]) -> Result<(Kind, usize), Damage> {
        let [a, b, c, d, kind, ..] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let intact =
            crc32fast::hash(&header[..20]).to_le_bytes() == header[20..] && header[5..8] == [0; 3];
        let kind = Kind::of(kind).filter(|_| intact).ok_or(Damage::Header)?;
        if self.ended && kind != Kind::Heartbeat {
            return Err(Damage::AfterEnd);
        }
        let limit = if kind == Kind::Content {
            self.content_max
        } else {
            0
        };
        if length > limit {
            return Err(Damage::Length(length));
        }
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&header[8..16]);
        let found = u64::from_le_bytes(sequence);
        if found != self.next {
            let expected = self.next;
            return Err(Damage::Gap { expected, found });
        }
        Ok((kind, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(frames: &[(Kind, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (sequence, (kind, content)) in (0..).zip(frames) {
            bytes.extend(header(*kind, sequence, content));
            bytes.extend_from_slice(content);
        }
        bytes
    }

    /// The contents and whether the end was seen, when read by `step` bytes.
    fn read(mut bytes: &[u8], step: usize) -> Result<(Vec<u8>, bool), Damage> {
        let mut assembly = Assembly::new(1 << 10);
        let (mut contents, mut ended) = (Vec::new(), false);
        while !bytes.is_empty() {
            let space = assembly.space();
            let count = step.min(bytes.len()).min(space.len());
            space[..count].copy_from_slice(&bytes[..count]);
            assembly.filled(count);
            bytes = &bytes[count..];
            while let Some((kind, content)) = assembly.frame()? {
                contents.extend_from_slice(content);
                ended |= kind == Kind::End;
            }
        }
        Ok((contents, ended && assembly.between_frames()))
    }

    const SMALL: [(Kind, &[u8]); 4] = [
        (Kind::Content, b"thal"),
        (Kind::Heartbeat, b""),
        (Kind::Content, b"weg"),
        (Kind::End, b""),
    ];

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let bytes = encoded(&SMALL);
        for step in 1..=bytes.len() {
            assert_eq!(read(&bytes, step), Ok((b"thalweg".to_vec(), true)));
        }
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let bytes = encoded(&SMALL);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let found = read(&damaged, bytes.len());
            assert!(found.is_err(), "bit {bit}: {found:?}");
        }
    }

    #[test]
    fn every_cut_is_detected() {
        let bytes = encoded(&SMALL);
        for length in 0..bytes.len() {
            let (_, ended) = read(&bytes[..length], 7).expect("what is there is intact");
            assert!(!ended, "cut at {length}");
        }
    }

    #[test]
    fn lost_repeated_swapped_and_oversized_frames_are_detected() {
        let whole = encoded(&SMALL);
        let (first, rest) = whole.split_at(HEADER_BYTES + 4);
        let gap = |expected, found| Err(Damage::Gap { expected, found });
        assert_eq!(read(rest, 9), gap(0, 1));
        assert_eq!(read(&[first, first, rest].concat(), 9), gap(1, 0));
        assert_eq!(
            read(&[whole.as_slice(), first].concat(), 9),
            Err(Damage::AfterEnd)
        );
        let long = encoded(&[(Kind::Content, &[0; 1025])]);
        assert_eq!(read(&long, 24), Err(Damage::Length(1025)));
        assert_eq!(
            read(&encoded(&[(Kind::End, b"x")]), 24),
            Err(Damage::Length(1))
        );
    }
}
