//! Where records end that may have line feeds between quotes (RFC 4180).
//!
//! The one rule, for whoever cuts chunks and whoever decodes them: a quote opens a quoted field
//! where the field begins and nowhere else; within, two quotes are one and a single one closes. A
//! record ends at a line feed outside of quoted fields. What else breaks the grammar is the
//! decoder's to judge, and costs the record it stands in, not its neighbours.

use memchr::{memchr, memchr2};

/// The characters that structure records; ASCII, and not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoting {
    /// Stands between fields.
    pub delimiter: u8,
    /// Stands around fields that have delimiters, quotes or line feeds in them; nothing if none do.
    pub quote: Option<u8>,
}

/// Finds the ends of records one after the other in text that may grow behind.
#[derive(Clone, Copy, Debug)]
pub struct RecordEnds {
    quoting: Quoting,
    /// Where the first record begins.
    start: usize,
    /// How far has been looked.
    at: usize,
    /// Whether that is within quotes.
    quoted: bool,
}

impl RecordEnds {
    /// Begins at `start` of a text, where a record begins.
    #[must_use]
    pub fn new(quoting: Quoting, start: usize) -> Self {
        Self {
            quoting,
            start,
            at: start,
            quoted: false,
        }
    }

    /// Position behind the line feed of the next record; nothing if `text` ends before. Asked
    /// again, `text` may have more behind what it had.
    pub fn next(&mut self, text: &[u8]) -> Option<usize> {
        let Some(quote) = self.quoting.quote else {
            return self.pass(memchr(b'\n', text.get(self.at..)?), text);
        };
        loop {
            let rest = text.get(self.at..)?;
            if self.quoted {
                let Some(found) = memchr(quote, rest) else {
                    self.at = text.len();
                    return None;
                };
                self.at += found;
                match text.get(self.at + 1) {
                    Some(next) if *next == quote => self.at += 2,
                    Some(_) => {
                        self.at += 1;
                        self.quoted = false;
                    }
                    // What follows will tell whether it closes.
                    None => return None,
                }
                continue;
            }
            let found = memchr2(quote, b'\n', rest);
            let opens = found.filter(|found| rest.get(*found) == Some(&quote));
            let Some(found) = opens else {
                return self.pass(found, text);
            };
            let at = self.at + found;
            self.quoted = at == self.start || self.begins_field(at, text);
            self.at = at + 1;
        }
    }

    /// Whether a field begins at `at`, behind the start.
    fn begins_field(&self, at: usize, text: &[u8]) -> bool {
        let before = text.get(at.wrapping_sub(1)).copied();
        before == Some(self.quoting.delimiter) || before == Some(b'\n')
    }

    /// Moves behind a line feed, or to the end of the text.
    fn pass(&mut self, found: Option<usize>, text: &[u8]) -> Option<usize> {
        self.at = found.map_or(text.len(), |found| self.at + found + 1);
        found.map(|_| self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::{Quoting, RecordEnds};

    const USUAL: Quoting = Quoting {
        delimiter: b',',
        quote: Some(b'"'),
    };

    fn ends(quoting: Quoting, text: &str) -> Vec<usize> {
        let mut ends = RecordEnds::new(quoting, 0);
        std::iter::from_fn(|| ends.next(text.as_bytes())).collect()
    }

    #[test]
    fn line_feeds_between_quotes_end_nothing() {
        for (text, expected) in [
            ("a,b\nc\n", vec![4, 6]),
            ("\"a\nb\",c\nd", vec![8]),
            ("a,\"\n\"\"\n\",\n\n", vec![10, 11]),
            ("a,5\"\nb\n", vec![5, 7]),
            ("\"a\"\"\nb", vec![]),
            ("\"a\"b\"\nc\n", vec![6, 8]),
            ("a\n\"b\n\"\n", vec![2, 7]),
            ("\"a,\"\n\"b\"\n", vec![5, 9]),
            ("", vec![]),
        ] {
            assert_eq!(ends(USUAL, text), expected, "{text:?}");
        }
        let bare = Quoting {
            quote: None,
            ..USUAL
        };
        assert_eq!(ends(bare, "\"a\nb\",c\nd"), [3, 8]);
    }

    #[test]
    fn text_may_come_byte_by_byte() {
        let text = "a,\"x\"\"\n\"\nb\"\n\"\",\"\n\n\"\"\"\n\"\nc\nd";
        let expected = ends(USUAL, text);
        assert!(expected.len() >= 3, "{expected:?}");
        let mut found = Vec::new();
        let mut ends = RecordEnds::new(USUAL, 0);
        for end in 0..=text.len() {
            found.extend(std::iter::from_fn(|| ends.next(&text.as_bytes()[..end])));
        }
        assert_eq!(found, expected);
    }
}
