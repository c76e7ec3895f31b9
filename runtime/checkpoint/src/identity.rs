//! Who runs a job: told to others through claims and heartbeats.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use thalweg_stream::{Generation, Lineage};
use uuid::Uuid;

use crate::log::WriterId;

/// One run of a job, from the start of the command to its end, restarts of the dataflow included.
///
/// Clones are the same run. Injected, so that a simulation can make it from its seed.
#[derive(Clone, Debug)]
pub struct Identity {
    /// A name no other run has.
    run: Arc<str>,
    /// The process it is in.
    process: Process,
    attempts: Arc<AtomicU64>,
}

/// A process, as far as it can be told from others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The name of its host.
    pub host: String,
    /// Its number there.
    pub pid: u32,
    /// The start of the host's kernel that it belongs to, if known.
    pub boot: Option<String>,
    /// The namespace its number belongs to, if known: containers have their own.
    pub namespace: Option<String>,
    /// When it started, in ticks since that boot, if known: numbers are used again.
    pub started: Option<u64>,
}

impl Identity {
    /// A new run in this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::new(Uuid::new_v4().simple().to_string(), Process::this())
    }

    /// A run of the given name in the given process.
    #[must_use]
    pub fn new(run: impl Into<Arc<str>>, process: Process) -> Self {
        Self {
            run: run.into(),
            process,
            attempts: Arc::default(),
        }
    }

    /// The name of the run.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A name for the next attempt: what it writes is told from what earlier attempts wrote.
    pub(crate) fn next_writer(&self) -> WriterId {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        WriterId(format!("{}-{attempt}", self.run))
    }

    /// Whether `writer` is an attempt of this run.
    pub(crate) fn wrote(&self, writer: &WriterId) -> bool {
        let attempt = writer.0.strip_prefix(self.run());
        attempt.is_some_and(|attempt| attempt.starts_with('-'))
    }

    /// The lineage that `writer` begins with `generation`, if it begins one: the same for the same
    /// claim. A claim that was given up may have arrived all the same, and somebody may have gone on
    /// from it, so that the next one needs another.
    pub(crate) fn fresh_lineage(writer: &WriterId, generation: Generation) -> Lineage {
        let claim = format!("{}-{generation}", writer.0);
        let name = Uuid::new_v5(&Uuid::NAMESPACE_OID, claim.as_bytes());
        Lineage(name.simple().to_string().chars().take(12).collect())
    }
}

impl Process {
    /// This process.
    #[must_use]
    pub fn this() -> Self {
        let line = |path: &str| {
            let text = fs::read_to_string(path).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let pid = std::process::id();
        Self {
            host: line("/proc/sys/kernel/hostname")
                .or_else(|| line("/etc/hostname"))
                .unwrap_or_else(|| "unknown".to_owned()),
            pid,
            boot: line("/proc/sys/kernel/random/boot_id"),
            namespace: namespace(),
            started: stat(pid).map(|(started, _)| started),
        }
    }

    /// Whether this process is known to have ended, as seen by `observer`. False if it cannot be
    /// told: the process may be on another host or in another container.
    #[must_use]
    pub(crate) fn has_ended(&self, observer: &Self) -> bool {
        let told = self.boot.is_some() && self.namespace.is_some() && self.started.is_some();
        if !told || self.boot != observer.boot || self.namespace != observer.namespace {
            return false;
        }
        match stat(self.pid) {
            Some((started, alive)) => !alive || Some(started) != self.started,
            // Without this file system nothing can be told; with it, the process is gone.
            None => stat(observer.pid).is_some(),
        }
    }

    /// Whether a process of which no more than this is known is of this one's host and gone from it.
    pub(crate) fn misses(&self, host: &str, pid: u32) -> bool {
        host == self.host && stat(pid).is_none() && stat(self.pid).is_some()
    }
}

fn namespace() -> Option<String> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// When a process started and whether it is alive (a zombie is not), from `/proc/<pid>/stat`
/// (proc(5)): the name in parentheses may contain anything, fields are counted behind it.
fn stat(pid: u32) -> Option<(u64, bool)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind) = text.rsplit_once(')')?;
    let mut fields = behind.split_whitespace();
    let state = fields.next()?;
    // The state is field 3, the start time field 22.
    let started = fields.nth(18)?.parse().ok()?;
    Some((started, !matches!(state, "Z" | "X" | "x")))
}

#[cfg(test)]
mod tests {
    use thalweg_stream::Generation;

    use super::{Identity, Process};

    #[test]
    fn a_process_that_is_gone_is_told_from_one_that_is_there() {
        let me = Process::this();
        assert!(!me.has_ended(&me));
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let started = super::stat(child.id()).map(|(started, _)| started);
        let other = Process {
            pid: child.id(),
            started,
            ..me.clone()
        };
        assert!(!other.has_ended(&me));
        let elsewhere = Process {
            namespace: Some("pid:[1]".to_owned()),
            ..me.clone()
        };
        let reused = Process {
            started: started.map(|s| s + 1),
            ..other.clone()
        };
        assert!(reused.has_ended(&me));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(other.has_ended(&me));
        assert!(!other.has_ended(&elsewhere));
    }

    #[test]
    fn attempts_of_one_run_write_under_names_of_their_own() {
        let identity = Identity::new("run", Process::default());
        let (one, two) = (identity.next_writer(), identity.clone().next_writer());
        assert_ne!(one, two);
        assert!(identity.wrote(&one) && identity.wrote(&two));
        assert!(!Identity::new("ru", Process::default()).wrote(&one));
        let lineage = |writer, generation| Identity::fresh_lineage(writer, Generation(generation));
        assert_eq!(lineage(&one, 1), lineage(&one, 1));
        assert_ne!(lineage(&one, 1), lineage(&two, 1));
        assert_ne!(lineage(&one, 1), lineage(&one, 2));
        let lineage = lineage(&one, 1);
        assert_eq!(lineage.0.len(), 12);
    }
}
