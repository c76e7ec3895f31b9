//! Whether an attempt that has failed is followed by another one, and when. Pure.
//!
//! What the user has to mend, durable data that is damaged and a job that belongs to a newer
//! generation end the run at once: another attempt would meet the same. So does a place that is not
//! usable before an attempt has processed anything, or that was not usable several times in a row,
//! such as standard output of which the reader has gone; and a service that does not answer where the
//! run begins. Everything else is tried again from the last checkpoint, after a delay that doubles.

use std::time::Duration;

use thalweg_stream::{Class, Fault};

use crate::failure::{Failure, Place};

/// How often a job that has failed is started again, and after how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Restarts in a row before the run ends with the last fault; none at all if 0.
    pub attempts: u32,
    /// Delay before the first of them; each is twice the one before…
    pub delay: Duration,
    /// …up to this.
    pub delay_max: Duration,
    /// An attempt that has run for so long and committed a checkpoint begins a new row.
    pub reset_after: Duration,
}

impl RestartPolicy {
    /// No restarts.
    pub const NEVER: Self = Self {
        attempts: 0,
        delay: Duration::ZERO,
        delay_max: Duration::ZERO,
        reset_after: Duration::ZERO,
    };
}

/// Failures on one record, one after the other, after which the record is named and the run ends;
/// and those of one place that is not usable.
const SAME_MAX: u32 = 3;

/// An attempt that has failed.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// How long it was running: processing, not only starting.
    pub(crate) ran: Option<Duration>,
    /// Whether it has committed a checkpoint.
    pub(crate) committed: bool,
    /// Whether somebody had asked for a stop.
    pub(crate) stopping: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another attempt, after a delay; rows of the suspect come singly in it.
    Again {
        after: Duration,
        suspect: Option<Place>,
    },
    /// The run ends with this fault.
    End(Fault),
}

/// The failures of a run so far.
#[derive(Clone, Debug)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    in_row: u32,
    /// Where the last attempt failed, and how many in a row have failed there.
    suspect: Option<(Place, u32)>,
    /// What was not usable in the last attempt, and in how many of this row.
    unusable: Option<(Fault, u32)>,
    /// Some attempt has got so far as to process.
    begun: bool,
}

impl Restarts {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            in_row: 0,
            suspect: None,
            unusable: None,
            begun: false,
        }
    }

    /// What follows from a failure.
    pub(crate) fn on_failure(&mut self, failed: Failed) -> Verdict {
        let Failed {
            failure,
            ran,
            committed,
            stopping,
        } = failed;
        let fault = failure.fault;
        self.begun |= ran.is_some();
        if committed && ran.is_some_and(|ran| ran >= self.policy.reset_after) {
            self.in_row = 0;
            self.unusable = None;
        }
        if !self.is_passing(&fault, ran.is_some()) || stopping || self.policy.attempts == 0 {
            return Verdict::End(fault);
        }
        self.suspect = match (self.suspect.take(), failure.place) {
            (_, None) => None,
            (Some((before, times)), Some(now)) if before.meets(&now) => Some((now, times + 1)),
            (_, Some(now)) => Some((now, 1)),
        };
        if let Some((place, times)) = &self.suspect
            && *times >= SAME_MAX
            && place.is_record()
        {
            return Verdict::End(Fault::new(
                fault.class,
                format!(
                    "{}: it has failed {times} times in a row on {place}",
                    fault.message
                ),
            ));
        }
        if self.in_row >= self.policy.attempts {
            let times = self.in_row + 1;
            let context = format!("given up after {times} attempts in a row");
            return Verdict::End(fault.within(context));
        }
        let delay = (self.policy.delay)
            .saturating_mul(2_u32.saturating_pow(self.in_row))
            .min(self.policy.delay_max);
        self.in_row += 1;
        let after = match fault.class {
            Class::Transient { after } => after.unwrap_or_default().max(delay),
            Class::User
            | Class::Unavailable
            | Class::Unreachable
            | Class::Fenced
            | Class::Corrupt
            | Class::Bug => delay,
        };
        Verdict::Again {
            after,
            suspect: self.suspect.as_ref().map(|(place, _)| place.clone()),
        }
    }

    /// Whether another attempt may come further.
    fn is_passing(&mut self, fault: &Fault, ran: bool) -> bool {
        let unusable = self.unusable.take();
        match fault.class {
            Class::User | Class::Fenced | Class::Corrupt => false,
            Class::Unavailable => {
                let before = unusable.filter(|(before, _)| before == fault);
                let times = before.map_or(0, |(_, times)| times) + 1;
                self.unusable = Some((fault.clone(), times));
                ran && times < SAME_MAX
            }
            Class::Unreachable => self.begun,
            Class::Transient { .. } | Class::Bug => true,
        }
    }
}

#[cfg(test)]
mod tests;
