//! Time of a thread's own work, and the table's rows.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time that this thread has used: what other programs on the machine take does not count,
/// except for the caches they empty.
pub(crate) fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

/// Runs `work` over `rows` rows; nanoseconds a row.
pub(crate) fn per_row<T>(rows: usize, work: impl FnOnce() -> T) -> (f64, T) {
    let start = cpu();
    let result = work();
    let took = cpu() - start;
    (took.as_secs_f64() * 1e9 / rows as f64, result)
}

/// Prints a row of the table from the nanoseconds a row of many repetitions.
pub(crate) fn report(what: &str, budget: Option<f64>, mut each: Vec<f64>) {
    each.sort_by(f64::total_cmp);
    let budget = budget.map_or_else(String::new, |budget| format!("{budget:.0}"));
    let median = each.get(each.len() / 2).copied().unwrap_or(f64::NAN);
    let best = each.first().copied().unwrap_or(f64::NAN);
    println!("| {what} | {budget} | {median:.1} | {best:.1} |");
}
