//! Planned faults: rules that decide, with a seeded random number, which requests go wrong.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Which requests a rule is about; what is left out matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matches {
    /// The operation: `*` stands for any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The beginning of the target: `*` stands for any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What a rule does to a request. The parts combine: wait, then apply or not, then answer or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Waits this long before anything else, milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
    /// Answers with this HTTP status, without applying the request unless `apply` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Tells the client to stay away for so long, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Applies the request, and answers with `status` all the same.
    #[serde(default)]
    pub apply: bool,
    /// Applies the request, then drops the connection without an answer.
    #[serde(default)]
    pub lost_reply: bool,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests it is about.
    #[serde(default, rename = "match")]
    pub matches: Matches,
    /// What happens to them.
    pub action: Action,
    /// How many matching requests are let through first.
    #[serde(default)]
    pub skip: u64,
    /// How often it acts on the others: 1 is always.
    #[serde(default = "always")]
    pub probability: f64,
    /// How often it acts in all; without it there is no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

fn always() -> f64 {
    1.0
}

impl Rule {
    /// A rule that does `action` to every request of `operation`, at most `count` times.
    #[must_use]
    pub fn on(operation: &str, action: Action, count: u64) -> Self {
        Self {
            matches: Matches {
                operation: Some(operation.to_owned()),
                path: None,
            },
            action,
            skip: 0,
            probability: 1.0,
            count: Some(count),
        }
    }
}

/// Why the rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FaultsError {
    /// The file cannot be read.
    #[error("faults file {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is no list of rules.
    #[error("faults: {0}")]
    Rules(#[from] serde_json::Error),
}

/// The rules in force. The first rule that matches and acts decides.
#[derive(Debug)]
pub struct Faults {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    random: SmallRng,
    rules: Vec<Live>,
    file: Option<Watched>,
}

#[derive(Debug)]
struct Live {
    rule: Rule,
    skipped: u64,
    acted: u64,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
}

impl Faults {
    /// No rules yet. `seed` decides what rules with a probability will do.
    #[must_use]
    pub fn none(seed: u64) -> Self {
        Self {
            inner: Mutex::new(Inner {
                random: SmallRng::seed_from_u64(seed),
                rules: Vec::new(),
                file: None,
            }),
        }
    }

    /// The rules in the JSON file at `path` (a list of [`Rule`]), read again whenever it changes;
    /// no file means no rules.
    ///
    /// # Errors
    /// If what is there now cannot be read.
    pub fn file(path: impl Into<PathBuf>, seed: u64) -> Result<Self, FaultsError> {
        let faults = Self::none(seed);
        {
            let mut inner = faults.lock();
            inner.file = Some(Watched {
                path: path.into(),
                seen: None,
            });
            inner.refresh()?;
        }
        Ok(faults)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all rules; their counts start afresh.
    pub fn set(&self, rules: Vec<Rule>) {
        self.lock().set(rules);
    }

    /// The rules in force, each with how often it has acted.
    #[must_use]
    pub fn rules(&self) -> Vec<(Rule, u64)> {
        let inner = self.lock();
        (inner.rules.iter())
            .map(|live| (live.rule.clone(), live.acted))
            .collect()
    }

    /// What is to happen to a request, if a rule acts on it.
    ///
    /// # Errors
    /// If the file of rules has changed and cannot be read.
    pub fn decide(&self, operation: &str, target: &str) -> Result<Option<Action>, FaultsError> {
        let mut inner = self.lock();
        inner.refresh()?;
        Ok(inner.decide(operation, target))
    }
}

impl Inner {
    fn set(&mut self, rules: Vec<Rule>) {
        self.rules = rules
            .into_iter()
            .map(|rule| Live {
                rule,
                skipped: 0,
                acted: 0,
            })
            .collect();
    }

    fn refresh(&mut self) -> Result<(), FaultsError> {
        let Some(watched) = &mut self.file else {
            return Ok(());
        };
        let now = fingerprint(&watched.path)?;
        if now == watched.seen {
            return Ok(());
        }
        let rules = match now {
            None => Vec::new(),
            Some(_) => serde_json::from_slice(&read(&watched.path)?)?,
        };
        watched.seen = now;
        self.set(rules);
        Ok(())
    }

    fn decide(&mut self, operation: &str, target: &str) -> Option<Action> {
        for live in &mut self.rules {
            let Matches {
                operation: wanted,
                path,
            } = &live.rule.matches;
            let about = wanted.as_ref().is_none_or(|p| matches_glob(p, operation))
                && (path.as_ref()).is_none_or(|p| matches_glob(&format!("{p}*"), target));
            if !about || live.rule.count.is_some_and(|max| live.acted >= max) {
                continue;
            }
            if live.skipped < live.rule.skip {
                live.skipped += 1;
                continue;
            }
            if live.rule.probability < 1.0 && self.random.random::<f64>() >= live.rule.probability {
                continue;
            }
            live.acted += 1;
            return Some(live.rule.action.clone());
        }
        None
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FaultsError> {
    std::fs::read(path).map_err(|source| FaultsError::File {
        path: path.to_owned(),
        source,
    })
}

/// When the file was written and how long it is; nothing if there is none.
fn fingerprint(path: &Path) -> Result<Option<(SystemTime, u64)>, FaultsError> {
    let file = |source| FaultsError::File {
        path: path.to_owned(),
        source,
    };
    match std::fs::metadata(path) {
        Ok(meta) => Ok(Some((meta.modified().map_err(file)?, meta.len()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file(error)),
    }
}

/// Whether `text` is what `pattern` describes, `*` standing for any text.
fn matches_glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| matches_glob(tail, rest.get(at..).unwrap_or_default()))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Faults, Rule, matches_glob};

    #[test]
    fn patterns_match_as_described() {
        assert!(matches_glob("PUT *", "PUT blob"));
        assert!(matches_glob("*", ""));
        assert!(matches_glob("a*c*", "abcd"));
        assert!(!matches_glob("a*c", "abcd"));
        assert!(!matches_glob("replace", "replaced"));
    }

    fn acts(faults: &Faults, times: usize) -> Vec<bool> {
        (0..times)
            .map(|_| faults.decide("put", "/x").expect("no file").is_some())
            .collect()
    }

    #[test]
    fn rules_skip_act_and_end() {
        let faults = Faults::none(1);
        let mut rule = Rule::on("put", Action::default(), 2);
        rule.skip = 1;
        faults.set(vec![rule]);
        assert_eq!(acts(&faults, 5), [false, true, true, false, false]);
    }

    #[test]
    fn the_seed_decides_what_is_left_to_chance() {
        let runs = |seed| {
            let faults = Faults::none(seed);
            let mut rule = Rule::on("*", Action::default(), u64::MAX);
            rule.probability = 0.5;
            faults.set(vec![rule]);
            acts(&faults, 64)
        };
        assert_eq!(runs(7), runs(7));
        assert_ne!(runs(7), runs(8));
        assert!(runs(7).contains(&true) && runs(7).contains(&false));
    }

    #[test]
    fn the_file_is_read_again_when_it_changes() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("faults.json");
        let faults = Faults::file(&path, 0).expect("no file is no rules");
        assert_eq!(acts(&faults, 1), [false]);
        std::fs::write(
            &path,
            r#"[{"match":{"path":"/x"},"action":{"status":503}}]"#,
        )
        .expect("written");
        assert_eq!(acts(&faults, 1), [true]);
        std::fs::write(&path, r#"[{"action":{"state":1}}]"#).expect("written");
        assert!(
            faults.decide("put", "/x").is_err(),
            "a misspelt rule is told"
        );
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(acts(&faults, 1), [false]);
    }
}
