//! What goes through the nodes of a job: counted by every worker, read by the coordinator for
//! metrics and `/status`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_stream::{DeadClass, DeadLetter, Figures, Output};

use crate::shared::{Shared, lock};

/// What went through one node on all workers, since the attempt began.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) rows_in: AtomicU64,
    pub(crate) rows_out: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    /// Time that the instances of a source were stopped by flow control, microseconds.
    pub(crate) paused_us: AtomicU64,
    /// Instances of a source that have splits to read.
    pub(crate) readers: AtomicUsize,
    /// Those of them that are out of touch with where they read from.
    pub(crate) disconnected: AtomicUsize,
}

/// Adds to a counter that only measurements read.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    if by > 0 {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A duration in microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Dead letters by class.
pub(crate) fn classes(letters: &[DeadLetter]) -> impl Iterator<Item = (DeadClass, u64)> {
    let of = |class| {
        letters
            .iter()
            .filter(|letter| letter.class == class)
            .count() as u64
    };
    DeadClass::ALL
        .map(|class| (class, of(class)))
        .into_iter()
        .filter(|(_, count)| *count > 0)
}

/// What a step has put out in an epoch.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    rows: u64,
    batches: u64,
    duplicate: u64,
    late: u64,
    late_output: u64,
    /// Dead letters by class.
    dead: BTreeMap<DeadClass, u64>,
}

impl Tally {
    /// Counts what one call of the operator has put out.
    pub(crate) fn count(&mut self, out: &Output, late_port: Option<usize>) {
        for (port, batch) in &out.batches {
            let rows = batch.num_rows() as u64;
            self.batches += 1;
            self.rows += rows;
            if Some(*port) == late_port {
                self.late_output += rows;
            }
        }
        self.duplicate += out.ledger.duplicate;
        self.late += out.ledger.late;
        for (class, count) in classes(&out.dead) {
            *self.dead.entry(class).or_default() += count;
        }
    }

    /// Adds it to what metrics show of a node.
    pub(crate) fn tell(self, shared: &Shared, node: usize, step: &str, rows_in: u64) {
        if let Some(flow) = shared.flow.get(node) {
            add(&flow.rows_in, rows_in);
            add(&flow.rows_out, self.rows);
            add(&flow.batches, self.batches);
        }
        let count = |name, labels: &[&str], by| {
            if by > 0 {
                shared.metrics.count(name, labels, by);
            }
        };
        count("dedup_hits_total", &[step], self.duplicate);
        let dead_late = self.dead.get(&DeadClass::Late).copied().unwrap_or_default();
        let dropped = self.late.saturating_sub(dead_late + self.late_output);
        for (fate, rows) in [
            ("dropped", dropped),
            ("dead-letter", dead_late),
            ("output", self.late_output),
        ] {
            count("late_records_total", &[step, fate], rows);
        }
        for (class, letters) in self.dead {
            count("dead_letters_total", &[class.word()], letters);
        }
    }
}

/// One figure that a part has told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Figure {
    /// A counter's total.
    Total(u64),
    /// A gauge.
    Level(#[serde(with = "bits")] f64),
    /// A gauge of 1.
    Fact,
}

/// How often operators and readers are asked for their figures.
pub(crate) const FIGURES_EVERY: Duration = Duration::from_secs(1);

/// Figures by name and labels.
pub(crate) type Told = BTreeMap<(Cow<'static, str>, Vec<String>), Figure>;

/// Collects figures; totals and levels that are told twice are added up.
#[derive(Debug, Default)]
pub(crate) struct Collected(pub(crate) Told);

impl Collected {
    pub(crate) fn add(&mut self, name: &'static str, labels: Vec<String>, figure: Figure) {
        self.sum(Cow::Borrowed(name), labels, figure);
    }

    fn sum(&mut self, name: Cow<'static, str>, labels: Vec<String>, figure: Figure) {
        let sum = self.0.entry((name, labels));
        sum.and_modify(|sum| match (sum, &figure) {
            (Figure::Total(sum), Figure::Total(more)) => *sum += more,
            (Figure::Level(sum), Figure::Level(more)) => *sum += more,
            (sum, figure) => *sum = figure.clone(),
        })
        .or_insert(figure);
    }
}

impl Figures for Collected {
    fn total(&mut self, name: &'static str, labels: &[&str], total: u64) {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        self.add(name, labels, Figure::Total(total));
    }

    fn level(&mut self, name: &'static str, labels: &[&str], value: f64) {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        self.add(name, labels, Figure::Level(value));
    }

    fn fact(&mut self, name: &'static str, labels: &[&str]) {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        self.add(name, labels, Figure::Fact);
    }
}

/// The newest figures of every (node, worker).
#[derive(Debug, Default)]
pub(crate) struct FigureBoard(Mutex<BTreeMap<(usize, usize), Told>>);

impl FigureBoard {
    pub(crate) fn tell(&self, node: usize, worker: usize, told: Told) {
        lock(&self.0).insert((node, worker), told);
    }

    /// The newest figures of all that have told some.
    pub(crate) fn all(&self) -> Vec<((usize, usize), Told)> {
        let told = lock(&self.0);
        told.iter().map(|(at, told)| (*at, told.clone())).collect()
    }

    /// The figures of every node, added up over workers.
    pub(crate) fn by_node(&self) -> BTreeMap<usize, Told> {
        let mut nodes: BTreeMap<usize, Collected> = BTreeMap::new();
        for (&(node, _), told) in lock(&self.0).iter() {
            let sum = nodes.entry(node).or_default();
            for ((name, labels), figure) in told {
                sum.sum(name.clone(), labels.clone(), figure.clone());
            }
        }
        nodes.into_iter().map(|(at, sum)| (at, sum.0)).collect()
    }
}

/// A number as its bits: JSON knows no infinity.
mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.to_bits().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    cpu_of(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The clock that tells any thread the CPU time of the calling one.
#[allow(
    unsafe_code,
    reason = "the standard library does not tell a thread's CPU time"
)]
pub(crate) fn thread_clock() -> libc::clockid_t {
    let mut clock = 0;
    // SAFETY: the thread is the calling one, so it is alive; the pointer is to a live integer.
    let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
    match failed {
        0 => clock,
        _ => libc::CLOCK_THREAD_CPUTIME_ID,
    }
}

/// What a clock of CPU time shows; nothing if its thread is gone.
#[allow(
    unsafe_code,
    reason = "the standard library does not tell a thread's CPU time"
)]
pub(crate) fn cpu_of(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live, writable timespec; the call refuses clocks it does not know.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if failed != 0 {
        return Duration::ZERO;
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_workers_are_added_up() {
        let board = FigureBoard::default();
        for (worker, hits) in [(0, 3), (1, 4), (1, 5)] {
            let mut told = Collected::default();
            told.total("dedup_hits_total", &[], hits);
            told.level("state_keys", &["x"], 0.5);
            told.fact("plugin_info", &["5f1c"]);
            board.tell(7, worker, told.0);
        }
        let told = board.by_node().remove(&7).expect("told");
        let figure = |name, labels: &[&str]| {
            let labels = labels.iter().map(|&label| label.to_owned()).collect();
            told.get(&(Cow::Borrowed(name), labels)).cloned()
        };
        assert_eq!(figure("dedup_hits_total", &[]), Some(Figure::Total(8)));
        assert_eq!(figure("state_keys", &["x"]), Some(Figure::Level(1.0)));
        assert_eq!(figure("plugin_info", &["5f1c"]), Some(Figure::Fact));
    }

    #[test]
    fn a_thread_that_works_uses_cpu_time() {
        let before = thread_cpu();
        let mut spins = 0_u64;
        while thread_cpu() == before {
            spins = std::hint::black_box(spins + 1);
        }
        assert!(thread_cpu() > before);
    }
}
