//! What tests of whole jobs share: the binaries as processes ([`process`]), the stand-ins for
//! Azure's services ([`standin`]), a Kafka broker ([`kafka`]), and the independent oracle: plain maps over what the generator
//! says is true, which shares no code with the engine.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what a test finds wrong it says by panicking"
)]

pub mod kafka;
pub mod process;
pub mod python;
pub mod standin;

use std::collections::BTreeMap;

use thalweg_generate::{Event, Generator, Kind};

/// What a ten-second window of one device holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reports {
    /// Records in it.
    pub count: u64,
}

/// Reports per (window start in milliseconds, device), for records that are good or repeat a good
/// one; late and damaged ones are no part of it.
#[must_use]
pub fn fleet_windows(
    generator: &Generator,
    events: u64,
    window_ms: i64,
) -> BTreeMap<(i64, String), Reports> {
    let mut windows: BTreeMap<(i64, String), Reports> = BTreeMap::new();
    for number in 0..events {
        let (split, index) = generator.place(number);
        let truth = generator.truth(split, index);
        let counted = matches!(truth.kind, Kind::Good | Kind::DuplicateOf(_));
        if let (true, Some(at), Event::Fleet(event)) = (counted, truth.event_time_ms, &truth.event)
        {
            let start = at.div_euclid(window_ms) * window_ms;
            windows.entry((start, event.device_id())).or_default().count += 1;
        }
    }
    windows
}
