//! What the processes of a job hold back, told to each other: a source stops wherever it is held.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::following::HELD_PARTS;
use super::message::Order;
use crate::shared::{Shared, lock};

/// How often it is looked whether followers are to be told what the others hold.
const TELL_EVERY: Duration = Duration::from_millis(5);

/// What a follower has last told of itself.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) held: Vec<usize>,
    pub(super) queued: usize,
}

impl Known {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            held: vec![0; nodes],
            queued: 0,
        }
    }
}

/// What all followers hold, as they have last told.
pub(super) struct Held {
    pub(super) followers: Vec<Mutex<Known>>,
    /// One of them has told.
    pub(super) told: Notify,
}

/// Tells each follower, and the leader itself, what all others hold.
pub(super) async fn tell(all: Arc<Held>, followers: Vec<mpsc::Sender<Order>>, shared: Arc<Shared>) {
    let nodes = shared.flow.len();
    let mut told: Vec<(Vec<usize>, usize)> = vec![(vec![0; nodes], 0); followers.len()];
    loop {
        tokio::select! {
            () = all.told.notified() => {}
            () = shared.clock.sleep(TELL_EVERY) => {}
        }
        let (mut held, mut queued) = (vec![0_usize; nodes], 0);
        for known in &all.followers {
            let known = lock(known);
            queued += known.queued;
            let sums = held.iter_mut().zip(&known.held);
            sums.for_each(|(sum, more)| *sum += more);
        }
        shared.set_elsewhere(&held, queued);
        for (node, sum) in held.iter_mut().enumerate() {
            *sum += shared.held_here(node);
        }
        queued += shared.queued_bytes.load(Ordering::Relaxed);
        let many = followers.iter().zip(&all.followers).zip(&mut told);
        for ((follower, known), told) in many {
            let (held, queued) = {
                let own = lock(known);
                let others = held.iter().zip(&own.held);
                let others = others.map(|(all, own)| all.saturating_sub(*own));
                (
                    others.collect::<Vec<_>>(),
                    queued.saturating_sub(own.queued),
                )
            };
            let sum = |held: &[usize], queued: usize| held.iter().sum::<usize>() + queued;
            let change = sum(&held, queued).abs_diff(sum(&told.0, told.1));
            if change > shared.limits.bytes_max / HELD_PARTS
                || (change > 0 && sum(&held, queued) == 0)
            {
                *told = (held.clone(), queued);
                // If it takes no orders, that is found out where it matters.
                follower.try_send(Order::Elsewhere { held, queued }).ok();
            }
        }
    }
}
