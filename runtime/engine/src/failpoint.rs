//! Named points at which a test may kill or freeze the process, or have it panic, to see what a
//! successor or the supervisor makes of it.
//!
//! `THALWEG_FAILPOINT=NAME[:N][:stop|:panic|:hang]` kills the process with SIGKILL when it comes to the point
//! `NAME` for the `N`th time (the first, unless told otherwise); with `stop` it freezes it with
//! SIGSTOP instead, with `panic` the thread panics, with `hang` it sleeps for ever. Without the variable a point costs one load. A release build has no points at
//! all, so that nothing in its environment can end it.
//!
//! | point, each but `batch` `.before` and `.after` | what happens between |
//! |---|---|
//! | `batch.STEP` | a batch comes to a step |
//! | `claim` | the job log says that the job is ours |
//! | `restore` | the state of the checkpoint is read |
//! | `freeze` | one step on one worker is frozen |
//! | `upload.state`, `upload.SINK` | a state part, or a staged object, becomes durable |
//! | `commit` | the manifest and the entry of the job log that names it become durable |
//! | `publish.SINK` | a unit becomes visible |
//! | `confirm` | from the news that a unit is visible to a commit that no longer lists it |
//! | `compaction` | chains of deltas are merged in the background |

#[cfg(debug_assertions)]
pub(crate) use armed::hit;

/// Passes a point, which does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn hit(_: &[&str]) {}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        action: Action,
        left: AtomicU64,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Signal(libc::c_int),
        Panic,
        Hang,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    /// Passes the point whose name is made of `parts`, joined by dots.
    pub(crate) fn hit(parts: &[&str]) {
        let armed = ARMED.get_or_init(|| read(&std::env::var("THALWEG_FAILPOINT").ok()?));
        if let Some(armed) = armed
            && parts.iter().copied().eq(armed.name.split('.'))
            && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            act(armed);
        }
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
        let (name, count) = setting.split_once(':').unwrap_or((setting, "1"));
        Some(Armed {
            name: name.to_owned(),
            action,
            left: AtomicU64::new(count.parse().ok().filter(|count| *count > 0)?),
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
        use std::sync::atomic::Ordering;

        use super::{Action, read};

        #[test]
        fn settings_are_read() {
            let read = |setting: &str| {
                let armed = read(setting)?;
                Some((armed.name, armed.left.load(Ordering::Relaxed), armed.action))
            };
            let point = |name: &str, count, action| Some((name.to_owned(), count, action));
            let (kill, stop) = (Action::Signal(libc::SIGKILL), Action::Signal(libc::SIGSTOP));
            assert_eq!(read("commit.before"), point("commit.before", 1, kill));
            assert_eq!(read("a.b:3"), point("a.b", 3, kill));
            assert_eq!(read("a.b:2:stop"), point("a.b", 2, stop));
            assert_eq!(read("a.b:stop"), point("a.b", 1, stop));
            assert_eq!(read("a.b:2:panic"), point("a.b", 2, Action::Panic));
            assert_eq!(read("a.b:hang"), point("a.b", 1, Action::Hang));
            assert_eq!(read("a.b:0"), None);
            assert_eq!(read("a.b:x"), None);
        }
    }
}
