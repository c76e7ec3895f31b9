//! CPU time of the calling thread: what a deadline counts, so that a busy machine blames no row.

use std::time::Duration;

/// CPU time that this thread has used so far.
#[allow(
    unsafe_code,
    reason = "the standard library has no clock of a thread's CPU time"
)]
pub(crate) fn thread() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a value of ours that the call fills in; on failure it stays zero.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    debug_assert_eq!(failed, 0, "every Linux has this clock");
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
