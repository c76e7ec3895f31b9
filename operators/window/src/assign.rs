//! Which window a row belongs to.

/// The windows of a step: their size, offset and how long they take late rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    size_ms: i64,
    offset_ms: i64,
    allowed_ms: i64,
}

impl Windows {
    pub(crate) fn new(size_ms: i64, offset_ms: i64, allowed_ms: i64) -> Self {
        Self {
            size_ms,
            offset_ms: offset_ms.rem_euclid(size_ms),
            allowed_ms,
        }
    }

    /// Start of the window that contains `time`; floors, also before the epoch.
    pub(crate) fn start(self, time: i64) -> i64 {
        time.saturating_sub(self.since_start(time))
    }

    /// How far into its window `time` is.
    fn since_start(self, time: i64) -> i64 {
        let since = i128::from(time) - i128::from(self.offset_ms);
        // The remainder is less than the size, an i64.
        since.rem_euclid(i128::from(self.size_ms)) as i64
    }

    /// End of the window that starts at `start`: the first time not in it.
    pub(crate) fn end(self, start: i64) -> i64 {
        let before = match start {
            // The first window may have begun before there were times to say so.
            i64::MIN => self.since_start(start),
            _ => 0,
        };
        start.saturating_add(self.size_ms - before)
    }

    /// At this watermark windows that end by the time that is returned are forgotten.
    pub(crate) fn forgotten(self, watermark: i64) -> i64 {
        match watermark {
            i64::MAX => i64::MAX,
            _ => watermark.saturating_sub(self.allowed_ms),
        }
    }
}

/// The rows of one batch, by window. Memory is kept from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    /// Windows in order of appearance, with their rows, ascending.
    parts: Vec<(i64, Vec<u32>)>,
    used: usize,
    /// Rows that no window takes any more.
    pub(crate) late: Vec<u32>,
}

impl Assignment {
    /// Assigns the rows with these event times; windows that end by `closed` take none any more.
    pub(crate) fn assign(&mut self, windows: Windows, closed: i64, times: &[i64]) {
        self.late.clear();
        self.used = 0;
        let Some(&first) = times.first() else { return };
        let start = windows.start(first);
        let length = windows.end(start).abs_diff(start);
        // Usually all rows of a batch are of one window; found out without a branch per row.
        let outside = |outside, &time: &i64| outside | (time.wrapping_sub(start) as u64 >= length);
        if !times.iter().fold(false, outside) && windows.end(start) > closed {
            self.open(start).extend(0..times.len() as u32);
            return;
        }
        let (mut from, mut to, mut part) = (0, 0, None);
        for (row, &time) in times.iter().enumerate() {
            if time < from || time >= to || to == from {
                from = windows.start(time);
                to = windows.end(from);
                let late = to <= closed;
                part = (!late).then(|| self.position(from));
            }
            match part {
                Some(at) => self.parts[at].1.push(row as u32),
                None => self.late.push(row as u32),
            }
        }
    }

    fn position(&mut self, start: i64) -> usize {
        let used = &self.parts[..self.used];
        match used.iter().position(|part| part.0 == start) {
            Some(at) => at,
            None => {
                self.open(start);
                self.used - 1
            }
        }
    }

    fn open(&mut self, start: i64) -> &mut Vec<u32> {
        if self.used == self.parts.len() {
            self.parts.push((start, Vec::new()));
        }
        let part = &mut self.parts[self.used];
        self.used += 1;
        part.0 = start;
        part.1.clear();
        &mut part.1
    }

    /// The windows with their rows.
    pub(crate) fn parts(&self) -> &[(i64, Vec<u32>)] {
        &self.parts[..self.used]
    }
}

#[cfg(test)]
mod tests {
    use super::{Assignment, Windows};

    /// Window conformance case A8: floor semantics, offsets of either sign.
    #[test]
    fn starts_are_aligned_and_floored() {
        let day = 86_400_000;
        for (size, offset, time, start) in [
            (7, 0, 1, 0),
            (7, 0, 6, 0),
            (7, 0, 7, 7),
            (7, 0, 8, 7),
            (7, 3, 1, -4),
            (7, 3, 2, -4),
            (7, 3, 3, 3),
            (7, 3, 9, 3),
            (7, 3, 10, 10),
            (7, -2, 1, -2),
            (7, -2, -2, -2),
            (7, -2, 3, -2),
            (7, -2, 4, -2),
            (7, -2, 7, 5),
            (7, -2, 12, 12),
            (day, -8 * 3_600_000, 1_470_902_048_450, 1_470_844_800_000),
            (7, 10, 3, 3),
        ] {
            let windows = Windows::new(size, offset, 0);
            assert_eq!(
                windows.start(time),
                start,
                "size {size} offset {offset} time {time}"
            );
        }
    }

    #[test]
    fn the_ends_of_time_do_not_wrap() {
        let windows = Windows::new(1000, 0, 2000);
        for time in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
            let start = windows.start(time);
            assert!(start <= time && windows.end(start) >= time.saturating_sub(1));
            assert!(windows.forgotten(time) <= time);
        }
    }

    #[test]
    fn the_first_window_ends_where_the_second_begins() {
        let windows = Windows::new(1000, 0, 0);
        let end = windows.end(i64::MIN);
        assert_eq!(
            (windows.start(end - 1), windows.start(end)),
            (i64::MIN, end)
        );
        // However they come.
        let mut assignment = Assignment::default();
        assignment.assign(windows, i64::MIN, &[i64::MIN, end, end - 1]);
        assert_eq!(assignment.parts(), [(i64::MIN, vec![0, 2]), (end, vec![1])]);
    }

    #[test]
    fn rows_are_split_by_window_and_lateness() {
        let mut assignment = Assignment::default();
        let windows = Windows::new(10, 0, 5);
        assignment.assign(windows, windows.forgotten(14), &[12, 3, 25, 17, 9, 11]);
        let expected = [(10, vec![0, 3, 5]), (0, vec![1, 4]), (20, vec![2])];
        assert_eq!(assignment.parts(), expected);
        assert!(assignment.late.is_empty());
        assignment.assign(windows, windows.forgotten(15), &[12, 3, 25]);
        assert_eq!(assignment.parts(), [(10, vec![0]), (20, vec![2])]);
        assert_eq!(assignment.late, [1]);
        assignment.assign(windows, windows.forgotten(15), &[1, 2]);
        assert_eq!(
            (assignment.parts(), &assignment.late[..]),
            (&[][..], &[0, 1][..])
        );
        assignment.assign(windows, windows.forgotten(15), &[]);
        assert!(assignment.parts().is_empty() && assignment.late.is_empty());
    }
}
