//! What workers count for metrics: told at once in the process that has them, kept for the next
//! pulse in the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use thalweg_metrics::Metrics;

use crate::shared::lock;

/// The metrics of a job, as its workers see them.
#[derive(Debug)]
pub(crate) enum Meter {
    /// They are in this process.
    Here(Arc<Metrics>),
    /// They are in the leader's.
    Elsewhere(Mutex<Counted>),
}

/// What has been counted since the last pulse.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(into = "CountedWire", from = "CountedWire")]
pub(crate) struct Counted {
    counts: BTreeMap<Series, u64>,
    observed: Vec<(Series, f64)>,
}

/// A metric's name and its labels' values.
type Series = (String, Vec<String>);

/// Observations kept for one pulse; a histogram loses nothing that matters by the rest.
const OBSERVED_MAX: usize = 1024;

type CountedWire = (Vec<(Series, u64)>, Vec<(Series, f64)>);

impl From<Counted> for CountedWire {
    fn from(counted: Counted) -> Self {
        (counted.counts.into_iter().collect(), counted.observed)
    }
}

impl From<CountedWire> for Counted {
    fn from((counts, observed): CountedWire) -> Self {
        Self {
            counts: counts.into_iter().collect(),
            observed,
        }
    }
}

impl Meter {
    /// Adds to a counter.
    pub(crate) fn count(&self, name: &str, labels: &[&str], by: u64) {
        match self {
            Self::Here(metrics) => metrics.count(name, labels, by),
            Self::Elsewhere(counted) => {
                *lock(counted)
                    .counts
                    .entry(series(name, labels))
                    .or_default() += by;
            }
        }
    }

    /// Adds an observation to a histogram.
    pub(crate) fn observe(&self, name: &str, labels: &[&str], value: f64) {
        match self {
            Self::Here(metrics) => metrics.observe(name, labels, value),
            Self::Elsewhere(counted) => {
                let observed = &mut lock(counted).observed;
                if observed.len() < OBSERVED_MAX {
                    observed.push((series(name, labels), value));
                }
            }
        }
    }

    /// What has been counted here for elsewhere since the last call.
    pub(crate) fn take(&self) -> Counted {
        match self {
            Self::Here(_) => Counted::default(),
            Self::Elsewhere(counted) => std::mem::take(&mut *lock(counted)),
        }
    }

    /// Adds what another process has counted.
    pub(crate) fn add(&self, counted: Counted) {
        for ((name, labels), by) in counted.counts {
            self.count(&name, &borrowed(&labels), by);
        }
        for ((name, labels), value) in counted.observed {
            self.observe(&name, &borrowed(&labels), value);
        }
    }
}

fn borrowed(labels: &[String]) -> Vec<&str> {
    labels.iter().map(String::as_str).collect()
}

fn series(name: &str, labels: &[&str]) -> Series {
    let labels = labels.iter().map(|&label| label.to_owned()).collect();
    (name.to_owned(), labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_elsewhere_is_told_once() {
        let metrics = Arc::new(Metrics::new("test").expect("the list is well formed"));
        let (here, there) = (
            Meter::Here(Arc::clone(&metrics)),
            Meter::Elsewhere(Mutex::default()),
        );
        for _ in 0..3 {
            there.count("dead_letters_total", &["decode"], 2);
        }
        there.observe("checkpoint_pause_seconds", &[], 0.25);
        let wire = serde_json::to_string(&there.take()).expect("plain");
        here.add(serde_json::from_str(&wire).expect("the same"));
        here.add(there.take());
        let page = metrics.scrape().expect("encodes");
        assert!(page.contains("class=\"decode\",job=\"test\"} 6"), "{page}");
        assert!(
            page.contains("checkpoint_pause_seconds_sum{job=\"test\"} 0.25"),
            "{page}"
        );
    }
}
