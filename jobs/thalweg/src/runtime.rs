//! What the asynchronous work of a command runs on.

use thalweg_stream::Fault;
use tokio::runtime::{Builder, Runtime};

/// A runtime with so many threads of its own; without any, all is done by the caller's.
pub(crate) fn runtime(threads: usize) -> Result<Runtime, Fault> {
    let mut builder = match threads {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 0 {
        builder.worker_threads(threads);
    }
    (builder.enable_all().build())
        .map_err(|error| Fault::unavailable(format!("nothing to run on: {error}")))
}
