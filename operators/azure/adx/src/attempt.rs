//! Attempts to ingest one blob, and the decision what to do next: pure, so that every case is a
//! line of a test.
//!
//! A blob's data is posted under one `ingest-by:` tag for ever; each attempt to post it has a
//! number from 0 and a status row whose id is a function of tag and number. **Inserting that row
//! is the gate**: whoever inserts it may post, once; everybody else waits for what becomes of it.
//! Once the message has left, a second row, the *mark*, says so. Insertion only, so that no right to
//! change rows is needed and a late report about an old attempt never hides a newer one.
//!
//! The next attempt begins only when no extent carries the tag *and* the one before has failed, is
//! older than `repost_after`, or has had [`UNMARKED_MAX`] to be marked and is not: its process died
//! with the message in its hands. Two are in flight only if it died in the moment between message
//! and mark, or if a message outlives `repost_after`, and then the tag still keeps the rows single.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::answer::{age, time_ms, time_text};
use crate::error::without_queries;

/// The namespace of our source ids (a random UUID, fixed for ever).
const NAMESPACE: Uuid = Uuid::from_u128(0x8b0f_4d5c_4a55_4f0e_9a39_5f6e_77c1_d2a4);
/// An attempt this old whose message has left is marked; without a mark it may never have left. Much
/// longer than a mark takes, and so short that a start after a crash is not held up.
pub(crate) const UNMARKED_MAX: Duration = Duration::from_secs(2);
/// Attempts one call makes before it gives the unit back, to be tried later.
pub(crate) const ATTEMPTS_PER_CALL: u32 = 4;

/// The source id of attempt `number` under `tag`.
pub(crate) fn source_id(tag: &str, number: u32) -> Uuid {
    match number {
        0 => Uuid::new_v5(&NAMESPACE, tag.as_bytes()),
        _ => Uuid::new_v5(&NAMESPACE, format!("{tag}#{number}").as_bytes()),
    }
}

/// The id of the row that marks attempt `number` under `tag` as posted.
pub(crate) fn mark_id(tag: &str, number: u32) -> Uuid {
    Uuid::new_v5(&source_id(tag, number), b"posted")
}

/// What is known of an attempt from its status row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// Its number, from 0.
    pub(crate) number: u32,
    /// What became of it.
    pub(crate) state: State,
    /// How long ago the row was inserted or last changed.
    pub(crate) age: Duration,
    /// Whether this call posted it.
    pub(crate) ours: bool,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not known yet.
    Pending,
    /// Its rows are visible.
    Succeeded,
    /// Its rows were visible before.
    Skipped,
    /// It was refused.
    Failed(Failure),
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: String,
    /// `Permanent`, `Transient` or `Exhausted`.
    pub(crate) kind: String,
    pub(crate) details: String,
}

/// What is known of one blob's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The newest attempt.
    pub(crate) last: Option<Attempt>,
    /// Whether an extent carries the tag; nothing if it has not been asked since the last change.
    pub(crate) tagged: Option<bool>,
    /// Whether the newest attempt is marked as posted; nothing if it has not been asked.
    pub(crate) posted: Option<bool>,
    /// Attempts this call has made.
    pub(crate) made: u32,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing: the rows are visible, once.
    Done,
    /// Ask the table whether an extent carries the tag.
    AskTag,
    /// Ask whether the newest attempt is marked as posted.
    AskMark,
    /// Wait, and read the status again.
    Wait,
    /// Make attempt `number`: upload, insert its row, post.
    Post(u32),
    /// Give the unit back, to be tried later.
    Later(Failure),
    /// Stop the job: repeating it is pointless.
    Refuse(Failure),
}

/// What to do about `facts`.
pub(crate) fn decide(facts: &Facts, repost_after: Duration) -> Action {
    let Some(last) = &facts.last else {
        // No row, so nothing was posted; unless the row is in a table that is no longer lent.
        return unless_tagged(facts, Action::Post(0));
    };
    let next = Action::Post(last.number.saturating_add(1));
    match &last.state {
        State::Succeeded | State::Skipped => Action::Done,
        State::Pending if last.age >= repost_after => unless_tagged(facts, next),
        State::Pending if last.age < UNMARKED_MAX => Action::Wait,
        State::Pending => match facts.posted {
            None => Action::AskMark,
            Some(true) => Action::Wait,
            Some(false) => unless_tagged(facts, next),
        },
        State::Failed(failure) => match verdict(failure) {
            Verdict::Visible => Action::Done,
            Verdict::InFlight if last.age < repost_after => match facts.tagged {
                Some(true) => Action::Done,
                Some(false) => Action::Wait,
                None => Action::AskTag,
            },
            Verdict::InFlight => unless_tagged(facts, next),
            Verdict::Again if facts.made >= ATTEMPTS_PER_CALL => {
                unless_tagged(facts, Action::Later(failure.clone()))
            }
            Verdict::Again => unless_tagged(facts, next),
            // Since it was refused the user may have mended the table: a new start tries again.
            Verdict::Pointless if !last.ours => unless_tagged(facts, next),
            Verdict::Pointless => unless_tagged(facts, Action::Refuse(failure.clone())),
        },
    }
}

/// `action`, once it is known that no extent carries the tag.
fn unless_tagged(facts: &Facts, action: Action) -> Action {
    match facts.tagged {
        None => Action::AskTag,
        Some(true) => Action::Done,
        Some(false) => action,
    }
}

enum Verdict {
    /// The rows are visible already.
    Visible,
    /// Another message about the same blob is at work.
    InFlight,
    /// Another attempt may succeed.
    Again,
    /// It will be refused again.
    Pointless,
}

fn verdict(failure: &Failure) -> Verdict {
    match failure.code.as_str() {
        "Skipped_IngestByTagAlreadyExists" => Verdict::Visible,
        "BlobAlreadyReceived_BlobAlreadyFoundInBatch" => Verdict::InFlight,
        // The next attempt fetches fresh signatures and a fresh token, and uploads anew.
        "BadRequest_InvalidKustoIdentityToken"
        | "General_AbandonedIngestion"
        | "General_RetryAttemptsExceeded" => Verdict::Again,
        code if code.starts_with("Download_") => Verdict::Again,
        _ if failure.kind == "Transient" || failure.kind == "Exhausted" => Verdict::Again,
        _ => Verdict::Pointless,
    }
}

/// What an attempt's row says at first.
pub(crate) fn first_row(
    id: Uuid,
    database: &str,
    table: &str,
    blob: &str,
    writer: &str,
    now_ms: i64,
) -> Value {
    let id = id.to_string();
    json!({
        "PartitionKey": id,
        "RowKey": id,
        "Status": "Pending",
        "Database": database,
        "Table": table,
        "IngestionSourceId": id,
        "IngestionSourcePath": blob,
        "UpdatedOn": time_text(now_ms),
        "UpdatedOn@odata.type": "Edm.DateTime",
        "ThalwegWriter": writer,
    })
}

/// The row that marks an attempt as posted.
pub(crate) fn mark(id: Uuid, writer: &str, now_ms: i64) -> Value {
    let id = id.to_string();
    json!({
        "PartitionKey": id,
        "RowKey": id,
        "Status": "Posted",
        "UpdatedOn": time_text(now_ms),
        "UpdatedOn@odata.type": "Edm.DateTime",
        "ThalwegWriter": writer,
    })
}

/// Who inserted a row, if it was one of us.
pub(crate) fn writer_of(row: &Value) -> Option<&str> {
    row.get("ThalwegWriter")?.as_str()
}

/// Reads an attempt's row.
pub(crate) fn read_row(row: &Value, number: u32, now_ms: i64) -> Result<Attempt, String> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let state = match text("Status") {
        "Pending" | "Queued" => State::Pending,
        "Succeeded" => State::Succeeded,
        "Skipped" => State::Skipped,
        // One blob is ingested whole or not at all; a part of it means that something else is
        // wrong, which nobody but the user can judge.
        "Failed" | "PartiallySucceeded" => State::Failed(Failure {
            code: match text("ErrorCode") {
                "" => text("Status").to_owned(),
                code => code.to_owned(),
            },
            kind: text("FailureStatus").to_owned(),
            details: without_queries(text("Details")),
        }),
        other => return Err(format!("status {other:?} is none that is known")),
    };
    let updated = time_ms(text("UpdatedOn"))
        .ok_or_else(|| format!("UpdatedOn {:?} is no time", text("UpdatedOn")))?;
    Ok(Attempt {
        number,
        state,
        age: age(now_ms, updated),
        ours: false,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{
        Action, Attempt, Facts, Failure, State, UNMARKED_MAX, decide, first_row, mark_id, read_row,
        source_id,
    };

    const HOUR: Duration = Duration::from_secs(3600);

    fn failed(code: &str, kind: &str) -> State {
        State::Failed(Failure {
            code: code.to_owned(),
            kind: kind.to_owned(),
            details: String::new(),
        })
    }

    fn after(state: State, age: Duration, ours: bool, made: u32, tagged: Option<bool>) -> Action {
        let last = Some(Attempt {
            number: 2,
            state,
            age,
            ours,
        });
        let posted = Some(true);
        decide(
            &Facts {
                last,
                tagged,
                posted,
                made,
            },
            HOUR,
        )
    }

    #[test]
    fn nothing_is_posted_before_row_and_tag_were_asked() {
        let facts = |tagged| Facts {
            last: None,
            tagged,
            posted: None,
            made: 0,
        };
        assert_eq!(decide(&facts(None), HOUR), Action::AskTag);
        assert_eq!(decide(&facts(Some(true)), HOUR), Action::Done);
        assert_eq!(decide(&facts(Some(false)), HOUR), Action::Post(0));
    }

    #[test]
    fn a_pending_attempt_is_waited_for_until_it_is_old() {
        let (young, old) = (HOUR / 2, HOUR);
        for tagged in [None, Some(false)] {
            assert_eq!(after(State::Pending, young, false, 0, tagged), Action::Wait);
            assert_eq!(after(State::Pending, young, true, 1, tagged), Action::Wait);
        }
        assert_eq!(after(State::Pending, old, false, 0, None), Action::AskTag);
        assert_eq!(
            after(State::Pending, old, false, 0, Some(true)),
            Action::Done
        );
        assert_eq!(
            after(State::Pending, old, false, 0, Some(false)),
            Action::Post(3)
        );
    }

    #[test]
    fn an_attempt_without_its_mark_is_followed_by_another_soon() {
        let unmarked = |age, posted, tagged| {
            let last = Some(Attempt {
                number: 2,
                state: State::Pending,
                age,
                ours: false,
            });
            let facts = Facts {
                last,
                tagged,
                posted,
                made: 0,
            };
            decide(&facts, HOUR)
        };
        let (young, soon) = (UNMARKED_MAX / 2, UNMARKED_MAX);
        assert_eq!(unmarked(young, None, None), Action::Wait);
        assert_eq!(unmarked(soon, None, None), Action::AskMark);
        assert_eq!(unmarked(soon, Some(true), None), Action::Wait);
        assert_eq!(unmarked(soon, Some(false), None), Action::AskTag);
        assert_eq!(unmarked(soon, Some(false), Some(true)), Action::Done);
        assert_eq!(unmarked(soon, Some(false), Some(false)), Action::Post(3));
    }

    #[test]
    fn what_is_there_already_is_success() {
        for state in [
            State::Succeeded,
            State::Skipped,
            failed("Skipped_IngestByTagAlreadyExists", "Permanent"),
        ] {
            assert_eq!(after(state, HOUR, true, 1, None), Action::Done);
        }
        let twice = || failed("BlobAlreadyReceived_BlobAlreadyFoundInBatch", "Permanent");
        assert_eq!(after(twice(), HOUR / 2, true, 1, None), Action::AskTag);
        assert_eq!(after(twice(), HOUR / 2, true, 1, Some(false)), Action::Wait);
        assert_eq!(after(twice(), HOUR / 2, true, 1, Some(true)), Action::Done);
        assert_eq!(after(twice(), HOUR, true, 1, Some(false)), Action::Post(3));
    }

    #[test]
    fn every_failure_asks_for_the_tag_before_anything_else() {
        for (code, kind) in [
            ("General_InternalServerError", "Transient"),
            ("General_Whatever", "Exhausted"),
            ("BadRequest_InvalidBlob", "Permanent"),
            ("Download_SourceNotFound", "Permanent"),
        ] {
            let state = failed(code, kind);
            assert_eq!(after(state.clone(), HOUR, true, 1, None), Action::AskTag);
            assert_eq!(after(state, HOUR, true, 1, Some(true)), Action::Done);
        }
    }

    #[test]
    fn failures_are_repeated_given_back_or_final() {
        let transient = || failed("General_InternalServerError", "Transient");
        let again = after(transient(), HOUR, true, 1, Some(false));
        assert_eq!(again, Action::Post(3));
        let later = after(transient(), HOUR, true, 4, Some(false));
        assert!(matches!(later, Action::Later(_)), "{later:?}");
        for code in ["Download_Forbidden", "BadRequest_InvalidKustoIdentityToken"] {
            let state = failed(code, "Permanent");
            assert_eq!(after(state, HOUR, true, 1, Some(false)), Action::Post(3));
        }
        let wrong = || failed("BadRequest_InvalidBlob", "Permanent");
        let refused = after(wrong(), HOUR, true, 1, Some(false));
        assert!(matches!(refused, Action::Refuse(_)), "{refused:?}");
        assert_eq!(after(wrong(), HOUR, false, 0, Some(false)), Action::Post(3));
    }

    #[test]
    fn rows_read_back() {
        let id = source_id("job/l/s/1/0", 0);
        let row = first_row(id, "d", "t", "https://c/b", "1-x", 1_000);
        let read = read_row(&row, 0, 3_000).expect("a row");
        assert_eq!(
            (read.state, read.age),
            (State::Pending, Duration::from_secs(2))
        );
        assert!(read_row(&json!({"Status": "Lost"}), 0, 0).is_err());
        let failed = json!({"Status": "Failed", "UpdatedOn": "2026-01-01T00:00:00Z",
            "ErrorCode": "X", "Details": "at https://a/b?sig=S"});
        let read = read_row(&failed, 0, 0).expect("a row");
        assert!(!format!("{read:?}").contains("sig=S"));
    }

    #[test]
    fn source_ids_never_change() {
        // Kept as they were first made: another id would be another gate.
        assert_eq!(
            source_id("job/l/s/1/0", 0).to_string(),
            "2c261813-75b4-5fc1-8531-596af3c49e43"
        );
        assert_eq!(
            source_id("job/l/s/1/0", 1).to_string(),
            "62a25874-0b8e-5f5b-8c91-1fb1d8214ffb"
        );
        assert_eq!(
            mark_id("job/l/s/1/0", 0).to_string(),
            "f8659a49-6a65-57ab-a97f-777e33c04ce4"
        );
        assert_ne!(source_id("a", 0), source_id("a", 1));
        assert_ne!(source_id("a", 1), source_id("a", 2));
    }
}
