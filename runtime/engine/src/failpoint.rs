//! Named points at which a test may kill or freeze the process, or have it panic, to see what a
//! successor or the supervisor makes of it.
//!
//! `THALWEG_FAILPOINT=NAME[:N][:stop|:panic|:hang]` kills the process with SIGKILL when it comes to the point
//! `NAME` for the `N`th time (the first, unless told otherwise); with `stop` it freezes it with
//! SIGSTOP instead, with `panic` the thread panics, with `hang` it sleeps for ever. Without the variable a
//! point costs one load. A release build has no points at all, so that nothing in its environment can end it.
//!
//! | point, each but the first two `.before` and `.after` | what happens between |
//! |---|---|
//! | `batch.STEP` | a batch comes to a step |
//! | `record.STEP:TEXT` | a row comes to a step of which some column is the string `TEXT`: every time |
//! | `claim` | the job log says that the job is ours |
//! | `restore` | the state of the checkpoint is read |
//! | `freeze` | one step on one worker is frozen |
//! | `upload.state`, `upload.SINK` | a state part, or a staged object, becomes durable |
//! | `commit` | the manifest and the entry of the job log that names it become durable |
//! | `publish.SINK` | a unit becomes visible |
//! | `confirm` | from the news that a unit is visible to a commit that no longer lists it |
//! | `compaction` | chains of deltas are merged in the background |

#[cfg(debug_assertions)]
pub(crate) use armed::{hit, hit_by};

/// Passes a point, which does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn hit(_: &[&str]) {}

/// Passes the point of a step's rows, which does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn hit_by(_: &str, _: &thalweg_stream::RecordBatch) {}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use arrow::array::AsArray as _;
    use thalweg_stream::RecordBatch;

    struct Armed {
        name: String,
        action: Action,
        when: When,
    }

    enum When {
        /// Once so many are left.
        Left(AtomicU64),
        /// Where a row has this text.
        Text(String),
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Signal(libc::c_int),
        Panic,
        Hang,
    }

    /// How the names of points begin that rows come to.
    const RECORD: &str = "record.";

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    /// Passes the point whose name is made of `parts`, joined by dots.
    pub(crate) fn hit(parts: &[&str]) {
        if let Some(armed) = armed()
            && parts.iter().copied().eq(armed.name.split('.'))
            && let When::Left(left) = &armed.when
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            act(armed);
        }
    }

    /// Passes the point of a step's rows.
    pub(crate) fn hit_by(step: &str, rows: &RecordBatch) {
        if let Some(armed) = armed()
            && let When::Text(text) = &armed.when
            && armed.name.strip_prefix(RECORD) == Some(step)
            && (rows.columns().iter())
                .filter_map(|column| column.as_string_view_opt())
                .any(|column| column.iter().flatten().any(|value| value == text))
        {
            act(armed);
        }
    }

    fn armed() -> Option<&'static Armed> {
        let armed = ARMED.get_or_init(|| read(&std::env::var("THALWEG_FAILPOINT").ok()?));
        armed.as_ref()
    }

    #[allow(clippy::panic, reason = "a test has asked for it")]
    fn act(armed: &Armed) {
        match armed.action {
            Action::Signal(signal) => raise(signal),
            Action::Panic => panic!("failpoint {}", armed.name),
            Action::Hang => loop {
                std::thread::park();
            },
        }
    }

    /// Reads the setting; one that cannot be read arms nothing.
    fn read(setting: &str) -> Option<Armed> {
        let actions = [
            (":stop", Action::Signal(libc::SIGSTOP)),
            (":panic", Action::Panic),
            (":hang", Action::Hang),
        ];
        let (setting, action) = (actions.iter())
            .find_map(|(suffix, action)| Some((setting.strip_suffix(suffix)?, *action)))
            .unwrap_or((setting, Action::Signal(libc::SIGKILL)));
        let (name, which) = setting.split_once(':').unwrap_or((setting, "1"));
        let when = match name.starts_with(RECORD) {
            true => When::Text(which.to_owned()),
            false => When::Left(AtomicU64::new(
                which.parse().ok().filter(|count| *count > 0)?,
            )),
        };
        Some(Armed {
            name: name.to_owned(),
            action,
            when,
        })
    }

    #[allow(
        unsafe_code,
        reason = "a process can be killed without unwinding only by a signal"
    )]
    fn raise(signal: libc::c_int) {
        // SAFETY: kill takes no pointers, and the process is this one; neither signal can be caught.
        unsafe { libc::kill(libc::getpid(), signal) };
    }

    #[cfg(test)]
    mod tests {
        use super::{Action, When, read};

        #[test]
        fn settings_are_read() {
            let read = |setting: &str| {
                let armed = read(setting)?;
                let when = match armed.when {
                    When::Left(left) => left.into_inner().to_string(),
                    When::Text(text) => text,
                };
                Some((armed.name, when, armed.action))
            };
            let point =
                |name: &str, when: &str, action| Some((name.to_owned(), when.to_owned(), action));
            let (kill, stop) = (Action::Signal(libc::SIGKILL), Action::Signal(libc::SIGSTOP));
            assert_eq!(read("commit.before"), point("commit.before", "1", kill));
            assert_eq!(read("a.b:3"), point("a.b", "3", kill));
            assert_eq!(read("a.b:2:stop"), point("a.b", "2", stop));
            assert_eq!(read("a.b:stop"), point("a.b", "1", stop));
            assert_eq!(read("a.b:2:panic"), point("a.b", "2", Action::Panic));
            assert_eq!(read("a.b:hang"), point("a.b", "1", Action::Hang));
            let text = point("record.once", "a:b", Action::Panic);
            assert_eq!(read("record.once:a:b:panic"), text);
            assert_eq!(read("a.b:0"), None);
            assert_eq!(read("a.b:x"), None);
        }
    }
}
