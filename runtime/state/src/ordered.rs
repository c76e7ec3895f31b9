//! An ordered set of fingerprints, open-addressed.
//!
//! Values lie in ascending order in one array with gaps: where a value would lie were all of them
//! spread evenly is its home, and it lies there or as little behind as the order allows. A search
//! starts at the home and ends at the first value that is not less, usually on the same cache line,
//! and growing is one pass over memory. A set that values come to is at most three quarters full,
//! so that few have to make way for another; once they no longer come it can be
//! [made compact](OrderedSet::compact), and searches get hardly longer.
//!
//! A large set is split by the top byte, so that no insertion waits for all of it to grow.

mod part;

use thalweg_stream::KeyGroup;
use thalweg_stream::planted::planted;

use self::part::{NEAR, Part};

/// Values at which the set is split.
const SPLIT_AT: usize = 1 << 16;
/// Parts of a split set.
const PARTS: usize = 256;
/// Bytes of a value's place.
const PLACE_BYTES: usize = size_of::<Place>();
/// Bytes of a cache line.
const LINE_BYTES: usize = 64;
/// A part is loaded as a whole for values that are so great a share of its places.
const LOAD_SHARE: usize = 10;

/// 96 bits: 88 of a fingerprint, then the key group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value {
    high: u64,
    low: u32,
}

/// A value in memory: twelve bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(4))]
pub(crate) struct Place {
    high: u64,
    low: u32,
}

/// A place without a value: no value is that great.
const EMPTY: Place = Place {
    high: u64::MAX,
    low: u32::MAX,
};

impl Place {
    #[inline]
    pub(crate) fn of(value: Value) -> Self {
        Self {
            high: value.high,
            low: value.low,
        }
    }

    #[inline]
    pub(crate) fn value(self) -> Value {
        Value {
            high: self.high,
            low: self.low,
        }
    }

    #[inline]
    fn is_empty(self) -> bool {
        self.high == u64::MAX
    }
}

impl Value {
    #[inline]
    pub(crate) fn new(group: KeyGroup, print: u128) -> Self {
        let print = match planted("collide-prints") {
            true => print & 0xFFF << 108,
            false => print,
        };
        // The upper 88 of the 120 bits that the format has.
        let high = ((print >> 56) as u64).min(u64::MAX - 1);
        let low = (print >> 32) as u32;
        Self {
            high,
            low: low << 8 | u32::from(group),
        }
    }

    /// As the format has it: key group (8 bits), fingerprint (88 bits), zeros.
    pub(crate) fn bits(self) -> u128 {
        let print = u128::from(self.high) << 24 | u128::from(self.low >> 8);
        u128::from(self.group()) << 120 | print << 32
    }

    /// What [`bits`](Self::bits) gave.
    pub(crate) fn of_bits(bits: u128) -> Self {
        Self::new((bits >> 120) as KeyGroup, bits)
    }

    #[inline]
    pub(crate) fn group(self) -> KeyGroup {
        self.low as KeyGroup
    }

    /// Its uppermost bits.
    #[inline]
    pub(crate) fn high(self) -> u64 {
        self.high
    }

    /// Its lowermost bits, of the key group the last eight.
    #[inline]
    pub(crate) fn low(self) -> u32 {
        self.low
    }
}

/// Values, each with a time if the set is made so.
#[derive(Debug)]
pub(crate) struct OrderedSet {
    timed: bool,
    /// One, or [`PARTS`] once it is split.
    parts: Vec<Part>,
    len: usize,
}

impl OrderedSet {
    pub(crate) fn new(timed: bool) -> Self {
        Self {
            timed,
            parts: vec![Part::default()],
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The part of a value, and the bits that say where in it its home is.
    #[inline]
    fn part(&self, value: Value) -> (usize, u32) {
        if self.parts.len() == 1 {
            (0, (value.high >> 32) as u32)
        } else {
            ((value.high >> 56) as usize, (value.high >> 24) as u32)
        }
    }

    /// Something to load so that the memory around the home of `value` is near; its own value
    /// means nothing.
    #[inline]
    pub(crate) fn near(&self, value: Value) -> u32 {
        let (part, spread) = self.part(value);
        self.parts.get(part).map_or(0, |part| {
            let home = part.home(spread);
            // The places that are looked at may be on two cache lines.
            let [first, last] =
                [home, home + NEAR - 1].map(|at| part.places.get(at).map_or(0, |place| place.low));
            first ^ last ^ part.times.get(home) as u32
        })
    }

    /// Whether `values` are so good a share of the set that it is better loaded part by part in
    /// order than here and there.
    pub(crate) fn is_worth_loading(&self, values: usize) -> bool {
        let homes: usize = self.parts.iter().map(|part| part.homes).sum();
        values * LOAD_SHARE >= homes
    }

    /// Loads all memory of the part of `value` in order, if that pays for so many `values` of it.
    pub(crate) fn load(&self, value: Value, values: usize) {
        let Some(part) = self.parts.get(self.part(value).0) else {
            return;
        };
        if values * LOAD_SHARE < part.homes {
            return;
        }
        let places = part.places.iter().step_by(LINE_BYTES / PLACE_BYTES);
        std::hint::black_box(places.fold(0, |all, place| all ^ place.low));
        if self.timed {
            let places = (0..part.places.len()).step_by(LINE_BYTES / size_of::<u32>());
            std::hint::black_box(places.fold(0, |all, at| all ^ part.times.get(at)));
        }
    }

    /// The time of a value that is there (0 in a set without times).
    #[inline]
    pub(crate) fn find(&self, value: Value) -> Option<i64> {
        let (part, spread) = self.part(value);
        let part = self.parts.get(part)?;
        let at = part.find(value, spread).ok()?;
        Some(part.times.get(at))
    }

    /// Adds a value; false, changing nothing, if it is there.
    #[inline]
    pub(crate) fn insert(&mut self, value: Value, time: i64) -> bool {
        let (part, spread) = self.part(value);
        let Err(at) = self.parts[part].find(value, spread) else {
            return false;
        };
        self.add(value, time, part, at);
        true
    }

    fn add(&mut self, value: Value, time: i64, mut part: usize, mut at: usize) {
        self.len += 1;
        if self.len > SPLIT_AT && self.parts.len() == 1 {
            self.split();
            part = self.part(value).0;
            at = usize::MAX;
        }
        let shift = self.shift();
        let timed = self.timed;
        let room = &mut self.parts[part];
        if room.len >= room.len_max {
            room.move_to(Part::roomy(room.len + 1, timed), shift);
            at = usize::MAX;
        }
        if at == usize::MAX {
            at = room
                .find(value, (value.high >> shift) as u32)
                .unwrap_or_else(|at| at);
        }
        room.insert(at, value, time);
    }

    /// How far the upper half of a value is shifted to say where its home is.
    fn shift(&self) -> u32 {
        match self.parts.len() {
            1 => 32,
            _ => 24,
        }
    }

    fn split(&mut self) {
        let whole = std::mem::take(&mut self.parts);
        self.parts = vec![Part::roomy(self.len / PARTS, self.timed); PARTS];
        for (value, time) in whole.iter().flat_map(Part::iter) {
            let part = &mut self.parts[(value.high >> 56) as usize];
            let at = part.find(value, (value.high >> 24) as u32);
            part.insert(at.unwrap_or_else(|at| at), value, time);
        }
    }

    /// Makes room for `values`, about, if the set is empty.
    pub(crate) fn expect(&mut self, values: usize) {
        let homes: usize = self.parts.iter().map(|part| part.homes).sum();
        if self.len > 0 || homes >= values * 3 / 2 {
            return;
        }
        let parts = if values > SPLIT_AT { PARTS } else { 1 };
        self.parts = vec![Part::expecting(values / parts, self.timed); parts];
    }

    /// Moves the values of the parts from number `from` on together, about `budget` bytes; the
    /// number to go on from, or nothing if that was the last.
    pub(crate) fn compact(&mut self, from: usize, budget: usize) -> (usize, Option<usize>) {
        let (shift, timed) = (self.shift(), self.timed);
        let mut bytes = 0;
        for (number, part) in self.parts.iter_mut().enumerate().skip(from) {
            if bytes >= budget {
                return (bytes, Some(number));
            }
            let compact = Part::compact_homes(part.len);
            if part.homes > compact {
                bytes += part.len * PLACE_BYTES;
                part.move_to(Part::compact(part.len, timed), shift);
            }
        }
        (bytes, None)
    }

    /// The values from `from` on, ascending, with their times.
    pub(crate) fn iter_from(&self, from: Value) -> impl Iterator<Item = (Value, i64)> + '_ {
        let (first, spread) = self.part(from);
        self.parts[first..]
            .iter()
            .enumerate()
            .flat_map(move |(at, part)| {
                let start = match at {
                    0 => part.find(from, spread).unwrap_or_else(|at| at),
                    _ => 0,
                };
                part.iter_at(start)
            })
    }

    /// The values that begin with this byte, ascending.
    pub(crate) fn iter_top(&self, top: u8) -> impl Iterator<Item = Value> + '_ {
        let first = Value {
            high: u64::from(top) << 56,
            low: 0,
        };
        (self.iter_from(first).map(|(value, _)| value))
            .take_while(move |value| value.high >> 56 == u64::from(top))
    }

    /// All values, ascending, with their times.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Value, i64)> + '_ {
        self.parts.iter().flat_map(Part::iter)
    }

    /// Takes out all values for which `gone` holds.
    pub(crate) fn remove_all(&mut self, gone: impl Fn(Value) -> bool) {
        let mut left = Self::new(self.timed);
        for (value, time) in self.iter().filter(|(value, _)| !gone(*value)) {
            left.insert(value, time);
        }
        *self = left;
    }

    /// Empties it, keeping memory.
    pub(crate) fn clear(&mut self) {
        for part in &mut self.parts {
            part.places.fill(EMPTY);
            part.times.clear();
            part.len = 0;
        }
        self.len = 0;
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let parts = self.parts.iter();
        parts
            .map(|part| part.places.capacity() * PLACE_BYTES + part.times.memory_bytes())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{EMPTY, OrderedSet, SPLIT_AT, Value};

    fn spread(number: u64) -> u128 {
        let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u128::from(mixed ^ mixed >> 29) << 56 | u128::from(mixed) << 20
    }

    fn check(set: &OrderedSet, model: &BTreeMap<Value, i64>) {
        assert_eq!(set.len(), model.len());
        assert!(
            set.iter()
                .eq(model.iter().map(|(&value, &time)| (value, time)))
        );
        for part in &set.parts {
            assert_eq!(part.places.last(), Some(&EMPTY));
        }
    }

    #[test]
    fn values_are_in_order_while_it_grows_splits_and_is_made_compact() {
        for timed in [false, true] {
            let mut set = OrderedSet::new(timed);
            let mut model = BTreeMap::new();
            let count = SPLIT_AT as u64 + 9000;
            for number in 0..count {
                let value = Value::new(number as u8, spread(number % (count - 999)));
                let time = if timed { number as i64 } else { 0 };
                let new = !model.contains_key(&value);
                assert_eq!(set.insert(value, time), new, "{number}");
                model.entry(value).or_insert(time);
                if number.is_power_of_two() && number > 9 || number == SPLIT_AT as u64 + 7 {
                    let mut from = Some(0);
                    while let Some(part) = from {
                        from = set.compact(part, 1000).1;
                    }
                    check(&set, &model);
                }
            }
            check(&set, &model);
            let before = set.memory_bytes();
            assert_eq!(set.compact(0, usize::MAX).1, None);
            check(&set, &model);
            assert!(set.memory_bytes() < before);
            assert!(timed || set.memory_bytes() < set.len() * 14 + 100_000);
            for (&value, &time) in model.iter().step_by(29_989) {
                assert_eq!(set.find(value), Some(time));
                assert!(
                    set.iter_from(value)
                        .eq(model.range(value..).map(|(&v, &t)| (v, t)))
                );
            }
            set.remove_all(|value| value.group() == 3);
            model.retain(|value, _| value.group() != 3);
            check(&set, &model);
            set.clear();
            assert!(set.iter().next().is_none() && set.len() == 0);
        }
    }

    /// Values that crowd one home, at both ends, alike in all but their last bits.
    #[test]
    fn crowds_find_their_places() {
        for end in [0, u128::MAX >> 8] {
            let mut set = OrderedSet::new(true);
            let mut model = BTreeMap::new();
            for number in 0..300_u128 {
                let number = number * 7919 % 300;
                for print in [end ^ number << 32, end ^ number << 60, end ^ number << 100] {
                    let value = Value::new((number % 3) as u8, print);
                    let new = !model.contains_key(&value);
                    assert_eq!(set.insert(value, number as i64), new);
                    model.entry(value).or_insert(number as i64);
                    assert_eq!(Value::of_bits(value.bits()), value);
                }
            }
            check(&set, &model);
            for value in model.keys() {
                assert!(set.find(*value).is_some());
            }
        }
    }
}
