//! What has become of another process.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::stream::Link;

/// How often a thread that waits looks.
const LOOK: Duration = Duration::from_millis(10);

/// Whether another process is lost, and why: shared by all who may notice. The first reason counts.
#[derive(Clone, Default)]
pub struct Fate(Arc<Shared>);

#[derive(Default)]
struct Shared {
    reason: watch::Sender<Option<Arc<str>>>,
    links: Mutex<Vec<Weak<Link>>>,
    watched: AtomicBool,
}

impl Fate {
    /// The process is lost: `reason` completes "process 1 is lost: …".
    pub fn lose(&self, reason: impl Into<Arc<str>>) {
        self.0.reason.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(reason.into());
            }
            first
        });
    }

    /// Why the process is lost, if it is.
    #[must_use]
    pub fn reason(&self) -> Option<Arc<str>> {
        self.0.reason.borrow().clone()
    }

    /// Waits until the process is lost.
    ///
    /// # Cancel safety
    /// Nothing is lost with it.
    pub async fn lost(&self) -> Arc<str> {
        let mut reason = self.0.reason.subscribe();
        loop {
            if let Some(reason) = reason.borrow_and_update().clone() {
                return reason;
            }
            // The sender is in `self`.
            reason.changed().await.ok();
        }
    }

    /// Somebody sees the process itself and will tell how it has ended, which says more than that a
    /// connection broke.
    pub fn watch(&self) {
        self.0.watched.store(true, Ordering::Release);
    }

    /// The reason as a thread gets it, which waits for `patience` at most if one is to come.
    pub(crate) fn reason_within(&self, patience: Duration) -> Option<Arc<str>> {
        let mut waited = Duration::ZERO;
        let watched = self.0.watched.load(Ordering::Acquire);
        while watched && self.reason().is_none() && waited < patience {
            std::thread::park_timeout(LOOK);
            waited += LOOK;
        }
        self.reason()
    }

    /// Shuts the data connections down, so that whoever waits for them returns.
    pub fn sever(&self) {
        let links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        for link in links.iter().filter_map(Weak::upgrade) {
            link.sever();
        }
    }

    pub(crate) fn bind(&self, link: &Arc<Link>) {
        let mut links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.push(Arc::downgrade(link));
    }
}

impl fmt::Debug for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fate").field(&self.reason()).finish()
    }
}
