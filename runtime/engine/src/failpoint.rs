//! Named points at which a test may end the process, to see what a successor makes of it.
//!
//! `THALWEG_FAILPOINT=NAME:N` kills the process with SIGKILL when it comes to the point `NAME` for
//! the `N`th time. Without the variable a point costs one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Armed {
    name: String,
    left: AtomicU64,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// Passes the point `name`.
pub(crate) fn hit(name: &str) {
    let armed = ARMED.get_or_init(|| {
        let setting = std::env::var("THALWEG_FAILPOINT").ok()?;
        let (name, count) = setting.rsplit_once(':')?;
        Some(Armed {
            name: name.to_owned(),
            left: AtomicU64::new(count.parse().ok()?),
        })
    });
    if let Some(armed) = armed
        && armed.name == name
        && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        kill();
    }
}

#[allow(
    unsafe_code,
    reason = "a process can be killed without unwinding only by a signal"
)]
fn kill() {
    // SAFETY: raise takes no pointers; SIGKILL cannot be caught.
    unsafe { libc::raise(libc::SIGKILL) };
}
