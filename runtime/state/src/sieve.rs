//! Which panes a fingerprint may be in: one cache line tells for all of them.
//!
//! A Bloom filter in blocks (Putze, Sanders, Singler: "Cache-, Hash- and Space-Efficient Bloom
//! Filters", 2007), turned on its side: a line has a word for each pane, and a fingerprint has
//! three bits, the same in every word. Most fingerprints are new, and are in none; without this,
//! each pane would have to be asked, in memory that is in no cache.
//!
//! It is derived from the set, never part of a checkpoint, and never says that something is not
//! there which is. Sixteen panes have words of their own; those whose numbers are equal modulo
//! sixteen share one.

use crate::ordered::Value;

/// Panes that have a word each.
const PANES: usize = 16;
/// Parts, by the first byte of a fingerprint, that each grow alone.
const PARTS: usize = 256;
/// Fingerprints of a pane to a line at which its part grows: then a twentieth of others gets past.
const LINE_VALUES_MAX: usize = 5;

/// Panes, by the place of their words: a bit each.
pub(crate) type PaneBits = u16;

#[derive(Debug)]
pub(crate) struct Sieve {
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line([u32; PANES]);

#[derive(Clone, Debug, Default)]
struct Part {
    lines: Vec<Line>,
    /// How many fingerprints were added, by pane.
    counts: [u32; PANES],
    /// Panes that are gone but still have bits set.
    stale: PaneBits,
}

/// The word of a pane.
#[inline]
fn word(pane: i64) -> usize {
    pane as usize % PANES
}

/// The bit of a pane.
#[inline]
pub(crate) fn pane_bit(pane: i64) -> PaneBits {
    1 << word(pane)
}

#[inline]
fn part(value: Value) -> usize {
    (value.high() >> 56) as usize
}

/// The bits of a fingerprint: from those that say neither its part nor its line.
#[inline]
fn bits(value: Value) -> u32 {
    let print = value.low() >> 8;
    1 << (print & 31) | 1 << (print >> 5 & 31) | 1 << (print >> 10 & 31)
}

impl Part {
    #[inline]
    fn line(&self, value: Value) -> usize {
        let spread = (value.high() >> 24) & 0xffff_ffff;
        ((spread * self.lines.len() as u64) >> 32) as usize
    }

    /// How many lines are enough for what was added.
    fn lines_needed(&self) -> usize {
        let most = self.counts.iter().max().copied().unwrap_or_default();
        (most as usize).div_ceil(LINE_VALUES_MAX)
    }

    /// Wipes what is left of a pane.
    #[cold]
    fn wipe(&mut self, pane: i64) {
        self.stale &= !pane_bit(pane);
        for line in &mut self.lines {
            line.0[word(pane)] = 0;
        }
    }
}

impl Default for Sieve {
    fn default() -> Self {
        Self {
            parts: vec![Part::default(); PARTS],
        }
    }
}

impl Sieve {
    /// Something to load so that the line of `value` is near; its own value means nothing.
    #[inline]
    pub(crate) fn near(&self, value: Value) -> u32 {
        let part = &self.parts[part(value)];
        (part.lines.get(part.line(value))).map_or(0, |line| line.0[0])
    }

    /// The panes that `value` may be in.
    #[inline]
    pub(crate) fn panes(&self, value: Value) -> PaneBits {
        let part = &self.parts[part(value)];
        let Some(line) = part.lines.get(part.line(value)) else {
            return 0;
        };
        let bits = bits(value);
        let panes = line.0.iter().enumerate().fold(0, |panes, (at, word)| {
            panes | PaneBits::from(word & bits == bits) << at
        });
        panes & !part.stale
    }

    /// Adds a value of a pane. False if its part must [grow](Self::rebuild) first.
    #[inline]
    pub(crate) fn add(&mut self, pane: i64, value: Value) -> bool {
        let part = &mut self.parts[part(value)];
        if part.stale & pane_bit(pane) != 0 {
            part.wipe(pane);
        }
        let count = &mut part.counts[word(pane)];
        *count += 1;
        if *count as usize > part.lines.len() * LINE_VALUES_MAX {
            return false;
        }
        let at = part.line(value);
        if let Some(line) = part.lines.get_mut(at) {
            line.0[word(pane)] |= bits(value);
        }
        true
    }

    /// Makes the part of what begins with `top` anew, with room for half as much again, from all
    /// values that do, with their panes.
    #[cold]
    pub(crate) fn rebuild<I>(&mut self, top: u8, all: impl Fn() -> I)
    where
        I: Iterator<Item = (i64, Value)>,
    {
        let mut part = Part::default();
        for (pane, _) in all() {
            part.counts[word(pane)] += 1;
        }
        let lines = part.lines_needed();
        part.lines = vec![Line([0; PANES]); lines + lines / 2];
        for (pane, value) in all() {
            let at = part.line(value);
            if let Some(line) = part.lines.get_mut(at) {
                line.0[word(pane)] |= bits(value);
            }
        }
        self.parts[usize::from(top)] = part;
    }

    /// Says that a pane is gone, and no other that has the same word is left.
    pub(crate) fn retire(&mut self, pane: i64) {
        for part in &mut self.parts {
            let count = std::mem::take(&mut part.counts[word(pane)]);
            if count > 0 {
                part.stale |= pane_bit(pane);
            }
        }
    }

    /// Whether there is far more room than what was added needs.
    pub(crate) fn is_roomy(&self) -> bool {
        let lines: usize = self.parts.iter().map(|part| part.lines.len()).sum();
        let needed: usize = self.parts.iter().map(Part::lines_needed).sum();
        lines > PARTS * 4 && lines > needed * 8
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let parts = self.parts.iter();
        parts
            .map(|part| part.lines.capacity() * size_of::<Line>())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_VALUES_MAX, PARTS, Sieve, pane_bit};
    use crate::ordered::Value;

    fn value(number: u64) -> Value {
        let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let print = u128::from(mixed ^ mixed >> 32) << 56 | u128::from(mixed) << 20;
        Value::new(number as u8, print)
    }

    /// Adds values to a pane as a set of panes does that has all of `known` already.
    fn add(sieve: &mut Sieve, known: &mut Vec<(i64, Value)>, pane: i64, value: Value) {
        known.push((pane, value));
        if !sieve.add(pane, value) {
            let top = (value.high() >> 56) as u8;
            sieve.rebuild(top, || {
                (known.iter().copied()).filter(move |(_, v)| (v.high() >> 56) as u8 == top)
            });
        }
    }

    #[test]
    fn what_was_added_gets_past_and_little_else() {
        let (mut sieve, mut known) = (Sieve::default(), Vec::new());
        assert_eq!(sieve.panes(value(1)), 0);
        let count = 20_000;
        for number in 0..count {
            add(
                &mut sieve,
                &mut known,
                -3 + number as i64 % 3,
                value(number),
            );
        }
        for &(pane, value) in &known {
            assert!(sieve.panes(value) & pane_bit(pane) != 0);
        }
        let past = |sieve: &Sieve| -> u32 {
            let others = (count..count * 2).map(|number| sieve.panes(value(number)));
            others.map(u16::count_ones).sum()
        };
        // Of three panes, a twentieth each.
        assert!(past(&sieve) < count as u32 * 3 / 20, "{}", past(&sieve));
        sieve.retire(-2);
        known.retain(|&(pane, _)| pane != -2);
        for &(pane, value) in &known {
            assert_eq!(sieve.panes(value) & pane_bit(-2), 0);
            assert!(sieve.panes(value) & pane_bit(pane) != 0);
        }
        // The word of a pane that is gone is clean for the next.
        add(&mut sieve, &mut known, 14, value(5));
        assert_eq!(sieve.panes(value(5)) & pane_bit(14), pane_bit(14));
        assert!(past(&sieve) < count as u32 * 2 / 20, "{}", past(&sieve));
        let lines = sieve.memory_bytes() / 64;
        assert!(lines < count as usize / 3 / LINE_VALUES_MAX * 2 + PARTS);
        assert!(!sieve.is_roomy());
        for pane in [-3, -1, 14] {
            sieve.retire(pane);
        }
        assert!(sieve.is_roomy());
    }
}
