//! A part of an ordered set: values in one array with gaps, each near its home.

use super::{EMPTY, Place, Value};
use crate::times::Times;

/// Homes of the smallest part.
const HOMES_MIN: usize = 16;
/// Places looked at for the first that is not less: usually as far as one has to look.
pub(super) const NEAR: usize = 4;
/// Places behind the last home.
const SPILL: usize = 8;

#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// Values, ascending, with gaps; one gap at least at the end.
    pub(super) places: Vec<Place>,
    pub(super) times: Times,
    pub(super) homes: usize,
    pub(super) len: usize,
    /// Values at which it grows.
    pub(super) len_max: usize,
}

impl Part {
    /// An empty one for `len` values and half as many more: half full with them.
    pub(super) fn roomy(len: usize, timed: bool) -> Self {
        let homes = (len * 2).max(HOMES_MIN);
        Self::of(homes, homes * 3 / 4, timed)
    }

    /// An empty one for about `len` values: two thirds full with them. Neither are many places
    /// looked at for one of them then nor is much memory.
    pub(super) fn expecting(len: usize, timed: bool) -> Self {
        let homes = (len * 3 / 2).max(HOMES_MIN);
        Self::of(homes, homes * 3 / 4, timed)
    }

    /// An empty one for `len` values and a few more: sixteen seventeenths full with them.
    pub(super) fn compact(len: usize, timed: bool) -> Self {
        Self::of(Self::compact_homes(len), len + len / 64, timed)
    }

    pub(super) fn compact_homes(len: usize) -> usize {
        len + len / 16
    }

    fn of(homes: usize, len_max: usize, timed: bool) -> Self {
        let places = homes + SPILL;
        Self {
            places: vec![EMPTY; places],
            times: Times::new(timed, places),
            homes,
            len: 0,
            len_max,
        }
    }

    /// The home of a value, from 32 evenly spread bits of it.
    #[inline]
    pub(super) fn home(&self, spread: u32) -> usize {
        ((u64::from(spread) * self.homes as u64) >> 32) as usize
    }

    #[inline]
    fn at(&self, at: usize) -> Value {
        self.places.get(at).copied().unwrap_or(EMPTY).value()
    }

    /// Where the value is, or where it belongs.
    #[inline]
    pub(super) fn find(&self, value: Value, spread: u32) -> Result<usize, usize> {
        let home = self.home(spread);
        // Gaps are greater than every value. The first places are counted without a branch each, as
        // none would be guessed right.
        let near = self.places.get(home..).and_then(<[_]>::first_chunk);
        let near: &[Place; NEAR] = near.unwrap_or(&[EMPTY; NEAR]);
        let less = |place: &Place| usize::from(place.high < value.high);
        let steps: usize = near.iter().map(less).sum();
        let mut at = home + steps;
        if steps == NEAR {
            while self.at(at).high < value.high {
                at += 1;
            }
        }
        let found = self.at(at);
        if found.high != value.high {
            return Err(at);
        }
        while self.at(at) < value {
            at += 1;
        }
        if self.at(at) == value {
            Ok(at)
        } else {
            Err(at)
        }
    }

    /// Puts a value at its place, those behind it one further.
    #[inline]
    pub(super) fn insert(&mut self, at: usize, value: Value, time: i64) {
        self.len += 1;
        let mut gap = at;
        let mut carried = Place::of(value);
        while let Some(place) = self.places.get_mut(gap) {
            let here = *place;
            *place = carried;
            if here.is_empty() {
                break;
            }
            carried = here;
            gap += 1;
        }
        if gap + 1 >= self.places.len() {
            self.extend(gap, carried);
        }
        self.times.make_way(at, gap);
        self.times.set(at, time);
    }

    /// Makes room behind the end, where `left` is left over if it belongs there; one gap stays.
    #[cold]
    fn extend(&mut self, at: usize, left: Place) {
        self.places.reserve_exact(SPILL);
        if at == self.places.len() {
            self.places.push(left);
        }
        self.places.push(EMPTY);
        self.times.resize(self.places.len());
    }

    /// Moves all values to another one, which is empty and takes its place.
    pub(super) fn move_to(&mut self, other: Self, shift: u32) {
        let old = std::mem::replace(self, other);
        let mut next = 0;
        for (value, time) in old.iter() {
            let at = next.max(self.home((value.high >> shift) as u32));
            while at + 1 >= self.places.len() {
                self.extend(self.places.len(), EMPTY);
            }
            self.places[at] = Place::of(value);
            self.times.set(at, time);
            next = at + 1;
        }
        self.len = old.len;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Value, i64)> + '_ {
        self.iter_at(0)
    }

    pub(super) fn iter_at(&self, from: usize) -> impl Iterator<Item = (Value, i64)> + '_ {
        let places = self.places.get(from..).unwrap_or_default();
        (places.iter().enumerate())
            .filter(|(_, place)| !place.is_empty())
            .map(move |(at, &place)| (place.value(), self.times.get(from + at)))
    }
}
