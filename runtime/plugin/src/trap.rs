//! How a call can end without a result, and what a dead letter says of it.

use wasmtime::Trap;

use crate::limit::{Excess, MESSAGE_BYTES_MAX};

/// The kind of a failed call: its code in a dead letter, and without `plugin-` its label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The guest trapped: a panic, a limit, an instruction that cannot be done.
    Trap,
    /// It took longer than its deadline.
    Deadline,
    /// It returned something that is no result.
    Output,
    /// The function said that it failed.
    Failure,
    /// Not called: the batch had failed too often before.
    GivenUp,
    /// Not called: the batches before had been given up.
    CircuitOpen,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Trap,
        Self::Deadline,
        Self::Output,
        Self::Failure,
        Self::GivenUp,
        Self::CircuitOpen,
    ];

    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Trap => "plugin-trap",
            Self::Deadline => "plugin-deadline",
            Self::Output => "plugin-output",
            Self::Failure => "plugin-failure",
            Self::GivenUp => "plugin-given-up",
            Self::CircuitOpen => "plugin-circuit-open",
        }
    }

    pub(crate) fn label(self) -> &'static str {
        self.code().strip_prefix("plugin-").unwrap_or_default()
    }
}

/// A call without a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    /// The row whose fault it is, if that is known.
    pub(crate) row: Option<usize>,
}

impl Failed {
    pub(crate) fn new(kind: Kind, message: impl AsRef<str>) -> Self {
        Self {
            kind,
            message: clean(message.as_ref()),
            row: None,
        }
    }

    pub(crate) fn output(message: impl AsRef<str>) -> Self {
        Self::new(Kind::Output, message)
    }
}

/// The guest has used up its time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("deadline exceeded")]
pub(crate) struct OutOfTime;

/// Tells what ended a call; `said` is the last error that the guest logged.
pub(crate) fn classify(error: &wasmtime::Error, said: Option<&str>) -> Failed {
    if error.is::<OutOfTime>() {
        return Failed::new(Kind::Deadline, "took longer than its deadline");
    }
    if let Some(excess) = error.downcast_ref::<Excess>() {
        return Failed::new(Kind::Trap, excess.to_string());
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let trap = trap.to_string();
        let trap = trap.strip_prefix("wasm trap: ").unwrap_or(&trap);
        return Failed::new(Kind::Trap, said.unwrap_or(trap));
    }
    // Neither: what came back cannot be read (a list beyond the guest's memory, text that is none).
    Failed::output(format!(
        "returned what cannot be read: {}",
        error.root_cause()
    ))
}

/// Guest text as it may stand in a log or a dead letter: no control characters, not too long.
pub(crate) fn clean(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut cleaned: String = (text.get(..end).unwrap_or_default().chars())
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if end < text.len() {
        cleaned.push('…');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn guest_text_is_cut_at_a_character_and_has_no_control_characters() {
        assert_eq!(clean("\u{1b}[31mred\n"), " [31mred ");
        let long = clean(&"é".repeat(2_000));
        assert_eq!(long.chars().count(), 1_001);
        assert!(long.ends_with('…'));
    }
}
