//! The times of the places of a set, next to them.
//!
//! A pane is a slice of time, so its times are near to each other: each is kept as its distance
//! from the first that came, in half the memory, until one does not fit.

/// As many times as there are places, or none in a set without times.
#[derive(Clone, Debug, Default)]
pub(crate) enum Times {
    #[default]
    None,
    Near {
        /// What all distances are counted from, once there is one.
        base: Option<i64>,
        distances: Vec<u32>,
    },
    Far(Vec<i64>),
}

/// The distance of the first time: as many may come before as after it.
const FIRST: i64 = 1 << 31;

impl Times {
    pub(crate) fn new(timed: bool, places: usize) -> Self {
        match timed {
            false => Self::None,
            true => Self::Near {
                base: None,
                distances: vec![0; places],
            },
        }
    }

    /// The time at a place; 0 where there are none.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> i64 {
        match self {
            Self::None => 0,
            Self::Near { base, distances } => {
                let distance = distances.get(at).copied().unwrap_or_default();
                (base.unwrap_or_default()).wrapping_add(i64::from(distance))
            }
            Self::Far(times) => times.get(at).copied().unwrap_or_default(),
        }
    }

    /// Writes the time of a place.
    #[inline]
    pub(crate) fn set(&mut self, at: usize, time: i64) {
        if let Self::Near { base, distances } = self {
            let base = *base.get_or_insert(time.wrapping_sub(FIRST));
            match time.checked_sub(base).map(u32::try_from) {
                Some(Ok(distance)) => {
                    if let Some(place) = distances.get_mut(at) {
                        *place = distance;
                    }
                    return;
                }
                _ => self.widen(),
            }
        }
        if let Self::Far(times) = self
            && let Some(place) = times.get_mut(at)
        {
            *place = time;
        }
    }

    /// Moves the times from `at` on one place further, up to that of `gap`.
    #[inline]
    pub(crate) fn make_way(&mut self, at: usize, gap: usize) {
        match self {
            Self::None => {}
            Self::Near { distances, .. } => distances.copy_within(at..gap, at + 1),
            Self::Far(times) => times.copy_within(at..gap, at + 1),
        }
    }

    /// Forgets all of them, and what they were counted from.
    pub(crate) fn clear(&mut self) {
        match self {
            Self::None => {}
            Self::Near { base, .. } => *base = None,
            Self::Far(times) => *self = Self::new(true, times.len()),
        }
    }

    /// Makes it as long as the places are.
    pub(crate) fn resize(&mut self, places: usize) {
        match self {
            Self::None => {}
            Self::Near { distances, .. } => distances.resize(places, 0),
            Self::Far(times) => times.resize(places, 0),
        }
    }

    #[cold]
    fn widen(&mut self) {
        if let Self::Near { distances, .. } = self {
            let places = 0..distances.len();
            *self = Self::Far(places.map(|at| self.get(at)).collect());
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Near { distances, .. } => distances.capacity() * size_of::<u32>(),
            Self::Far(times) => times.capacity() * size_of::<i64>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Times;

    #[test]
    fn times_come_back_however_far_apart() {
        for all in [
            vec![5, 6, 4, 1 << 30],
            vec![0, 1 << 31, 7],
            vec![0, -1 << 31, -(1 << 31) - 1],
            vec![i64::MAX, i64::MIN, 0],
            vec![i64::MIN, i64::MAX, -1],
        ] {
            let mut times = Times::new(true, 1);
            for (at, &time) in all.iter().enumerate() {
                times.set(at, time);
                times.resize(at + 2);
            }
            let back: Vec<i64> = (0..all.len()).map(|at| times.get(at)).collect();
            assert_eq!(back, all);
            times.make_way(0, 2);
            assert_eq!([times.get(1), times.get(2)], [all[0], all[1]]);
        }
        let mut times = Times::new(true, 2);
        for (all, bytes) in [([0, i64::MAX], 16), ([i64::MAX, i64::MAX - 1], 8)] {
            times.set(0, all[0]);
            times.set(1, all[1]);
            assert_eq!([times.get(0), times.get(1)], all);
            assert_eq!(times.memory_bytes(), bytes);
            times.clear();
        }
        let mut none = Times::new(false, 3);
        none.set(1, 5);
        assert_eq!((none.get(1), none.memory_bytes()), (0, 0));
    }
}
