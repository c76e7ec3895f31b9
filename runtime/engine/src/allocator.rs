//! How the allocator gives memory back.

/// Blocks of this length and longer are mapped, and unmapped when they are freed (bytes). Batches are
/// shorter, as a rule; output on its way to the disk is longer.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: libc::c_int = 2 << 20;
/// Free memory at the end of an arena from which on it is given back (bytes).
#[cfg(target_env = "gnu")]
const TRIM_BYTES: libc::c_int = 2 << 20;

/// Lets freed memory go, for a process that is to stay as small as it can: of its own accord glibc raises
/// both thresholds, up to 32 and 64 MiB, once a long block has been freed, and then keeps such blocks in
/// the arena of each worker. Call it before threads are started; without glibc it does nothing.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    #[allow(
        unsafe_code,
        reason = "the standard library does not set up its allocator"
    )]
    for (parameter, bytes) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_BYTES),
        (libc::M_TRIM_THRESHOLD, TRIM_BYTES),
    ] {
        // SAFETY: `mallopt` takes two integers, and refuses what it cannot use.
        if unsafe { libc::mallopt(parameter, bytes) } == 0 {
            tracing::debug!(parameter, bytes, "the allocator keeps its threshold");
        }
    }
}
