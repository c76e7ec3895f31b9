//! Versions of a table's rows: the payload of a key.
//!
//! Each version is `event time i64, origin u64, deleted u8, length u32, values`; versions are
//! sorted by (event time, origin). Word 0 of the slot is their number.

use thalweg_state::{Reader, StateError, put_bytes, put_i64, put_u64};

/// One version of a row, borrowed from a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version<'a> {
    pub(crate) time: i64,
    pub(crate) origin: u64,
    pub(crate) deleted: bool,
    /// The taken columns, encoded one after the other.
    pub(crate) values: &'a [u8],
}

impl Version<'_> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_i64(out, self.time);
        put_u64(out, self.origin);
        out.push(u8::from(self.deleted));
        put_bytes(out, self.values);
    }
}

/// The versions in a payload, oldest first.
pub(crate) fn versions(payload: &[u8]) -> impl Iterator<Item = Result<Version<'_>, StateError>> {
    let mut reader = Reader::new(payload);
    std::iter::from_fn(move || {
        (reader.remaining() > 0).then(|| {
            Ok(Version {
                time: reader.i64()?,
                origin: reader.u64()?,
                deleted: reader.u8()? != 0,
                values: reader.bytes()?,
            })
        })
    })
}

/// The newest version of all.
pub(crate) fn newest(payload: &[u8]) -> Result<Option<Version<'_>>, StateError> {
    let mut newest = None;
    for version in versions(payload) {
        newest = Some(version?);
    }
    Ok(newest)
}

/// The newest version at or before `time`, if it is not a deletion.
#[inline]
pub(crate) fn as_of(payload: &[u8], time: i64) -> Result<Option<&[u8]>, StateError> {
    let mut newest = None;
    for version in versions(payload) {
        let version = version?;
        if version.time > time {
            break;
        }
        newest = Some(version);
    }
    Ok(newest
        .filter(|version| !version.deleted)
        .map(|version| version.values))
}

/// The versions of one key while they change.
#[derive(Debug, Default)]
pub(crate) struct History<'a> {
    versions: Vec<Version<'a>>,
}

impl<'a> History<'a> {
    pub(crate) fn read(payload: &'a [u8]) -> Result<Self, StateError> {
        Ok(Self {
            versions: versions(payload).collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.versions.len()
    }

    /// Adds a version at its place; after those of the same time and origin, which it replaces.
    pub(crate) fn add(&mut self, version: Version<'a>) {
        let order = (version.time, version.origin);
        let at = (self.versions).partition_point(|known| (known.time, known.origin) <= order);
        self.versions.insert(at, version);
    }

    /// Keeps the newest version only; not even that if it is a deletion that nothing older than
    /// `horizon` can follow.
    pub(crate) fn keep_newest(&mut self, horizon: i64) {
        self.versions.drain(..self.versions.len().saturating_sub(1));
        (self.versions).retain(|version| !(version.deleted && version.time <= horizon));
    }

    /// Forgets what no row later than `horizon` can see: all before the newest at or before it.
    /// That one too if it is a deletion at or before `complete`, the table's own watermark: until
    /// then an older version may follow, and must not come back to life.
    pub(crate) fn prune(&mut self, horizon: i64, complete: i64) {
        let seen = (self.versions).partition_point(|version| version.time <= horizon);
        let newest = seen.saturating_sub(1);
        let from = match self.versions.get(newest) {
            Some(version) if seen > 0 && version.deleted && version.time <= complete => seen,
            _ => newest,
        };
        self.versions.drain(..from);
    }

    /// When the oldest version can be forgotten: at the time of the next, or its own if it is a
    /// deletion.
    pub(crate) fn prunable_at(&self) -> Option<i64> {
        match &self.versions[..] {
            [oldest, ..] if oldest.deleted => Some(oldest.time),
            [_, next, ..] => Some(next.time),
            _ => None,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        for version in &self.versions {
            version.write(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{History, Version, as_of};

    fn version(time: i64, origin: u64, values: &'static str) -> Version<'static> {
        Version {
            time,
            origin,
            deleted: values.is_empty(),
            values: values.as_bytes(),
        }
    }

    #[test]
    fn a_history_answers_as_of_any_time_and_forgets_what_is_not_needed() {
        let mut history = History::default();
        for v in [
            version(20, 1, "b"),
            version(10, 7, "a"),
            version(20, 0, "x"),
            version(30, 1, ""),
        ] {
            history.add(v);
        }
        history.add(version(40, 1, "d"));
        let mut payload = Vec::new();
        history.write(&mut payload);
        let seen = |time| {
            as_of(&payload, time)
                .unwrap()
                .map(|v| String::from_utf8(v.to_vec()).unwrap())
        };
        for (time, values) in [
            (9, None),
            (10, Some("a")),
            (19, Some("a")),
            (20, Some("b")),
            (29, Some("b")),
            (30, None),
            (39, None),
            (i64::MAX, Some("d")),
        ] {
            assert_eq!(seen(time).as_deref(), values, "as of {time}");
        }
        for (horizon, left, next) in [
            (9, 5, Some(20)),
            (19, 5, Some(20)),
            (20, 3, Some(30)),
            (30, 1, None),
            (50, 1, None),
        ] {
            let mut history = History::read(&payload).unwrap();
            history.prune(horizon, i64::MAX);
            assert_eq!(
                (history.len(), history.prunable_at()),
                (left, next),
                "pruned to {horizon}"
            );
        }
        let mut history = History::read(&payload).unwrap();
        history.prune(30, 29);
        assert_eq!((history.len(), history.prunable_at()), (2, Some(30)));
        let mut history = History::read(&payload[..payload.len() - 26 - 4]).unwrap_or_default();
        history.add(version(50, 1, ""));
        history.keep_newest(49);
        assert_eq!(history.len(), 1);
        history.keep_newest(50);
        assert_eq!(history.len(), 0);
        assert!(as_of(&payload[..30], 100).is_err());
    }
}
