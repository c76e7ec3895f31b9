//! The source `kafka`.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::diagnostic::{Diagnostic, Span, Spanned};
use crate::fields::{Fields, credential, pairs, text};
use crate::model::{Kafka, KafkaStart, Secret};
use crate::tree::{Entry, Node, Value};

type Found = Vec<Diagnostic>;

pub(crate) fn kafka(node: &Node, found: &mut Found) -> Option<Kafka> {
    let mut fields = Fields::of(node, "`kafka`", found)?;
    let brokers = brokers(&mut fields, found);
    let topic = fields.required("topic", found);
    let start = start(&mut fields, node.span, found);
    let group = fields.text("group", found);
    let losses = [("fail", false), ("continue", true)];
    let on_data_loss = fields.word("on_data_loss", &losses, found);
    let levels = [("read_committed", false), ("read_uncommitted", true)];
    let read_uncommitted = fields.word("isolation", &levels, found);
    let discover_every_ms = fields.positive_duration("discover_every", found);
    let until_latest = fields.word("until", &[("latest", true)], found);
    let connect_timeout_ms = fields.duration("connect_timeout", found);
    let properties = match fields.node("properties") {
        Some(node) => properties(node, found),
        None => Vec::new(),
    };
    fields.finish(found);
    Some(Kafka {
        brokers: brokers?,
        topic: topic?,
        start: start?,
        group,
        continue_on_data_loss: on_data_loss.unwrap_or(false),
        read_uncommitted,
        discover_every_ms,
        until_latest: until_latest.unwrap_or(false),
        connect_timeout_ms,
        properties,
    })
}

/// One text with commas, or a list.
fn brokers(fields: &mut Fields<'_>, found: &mut Found) -> Option<Spanned<String>> {
    let Some(node) = fields.node("brokers") else {
        fields.missing("brokers");
        return None;
    };
    let list: Vec<String> = (fields.texts("brokers", found).into_iter())
        .map(|broker| broker.value)
        .collect();
    Some(Spanned::new(list.join(","), node.span))
}

/// A word, a time, or `{ timestamp: … }`.
fn start(fields: &mut Fields<'_>, default: Span, found: &mut Found) -> Option<Spanned<KafkaStart>> {
    let Some(node) = fields.node("start") else {
        return Some(Spanned::new(KafkaStart::Earliest, default));
    };
    if let Value::Map(_) = &node.value {
        let mut inside = Fields::of(node, "`start`", found)?;
        let timestamp = inside.required("timestamp", found);
        inside.finish(found);
        let timestamp = timestamp?;
        let at = time(&timestamp.value);
        if at.is_none() {
            let message = format!("`timestamp` is {TIME}, not `{}`", timestamp.value);
            found.push(Diagnostic::error(timestamp.span, message));
        }
        return Some(Spanned::new(KafkaStart::Timestamp(at?), timestamp.span));
    }
    let written = text(node, "start", found)?;
    let words = ["earliest", "latest", "committed"];
    let start = match written.value.as_str() {
        "earliest" => KafkaStart::Earliest,
        "latest" => KafkaStart::Latest,
        "committed" => KafkaStart::Committed,
        other => match time(other) {
            Some(at) => KafkaStart::Timestamp(at),
            None if other.starts_with(|first: char| first.is_ascii_digit()) => {
                let message = format!("`start` at a time is {TIME}, not `{other}`");
                found.push(Diagnostic::error(written.span, message));
                return None;
            }
            None => {
                let message = format!(
                    "`start` is one of {}, or a time, not `{other}`",
                    words.join(", ")
                );
                found.push(Diagnostic::error(written.span, message).nearest(other, words));
                return None;
            }
        },
    };
    Some(Spanned::new(start, written.span))
}

/// How a time is written.
const TIME: &str = "a time such as 2026-01-31T08:00:00Z, or milliseconds since 1970";

/// A time as milliseconds since 1970, rounded up.
fn time(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return (ms >= 0).then_some(ms);
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let ms = at.unix_timestamp_nanos().div_euclid(1_000_000)
        + i128::from(at.nanosecond() % 1_000_000 > 0);
    i64::try_from(ms).ok().filter(|ms| *ms >= 0)
}

/// The properties. Any of them may be a credential, so all are kept as such; those that are by their
/// names are never shown.
fn properties(node: &Node, found: &mut Found) -> Vec<(Spanned<String>, Secret)> {
    let Value::Map(entries) = &node.value else {
        // Tells that it is no mapping.
        pairs(node, "properties", found);
        return Vec::new();
    };
    let property = |entry: &Entry, found: &mut Found| {
        let name = Spanned::new(entry.key.clone(), entry.at);
        // Somebody may have put a connection string where the user's name belongs.
        let misplaced = matches!(&entry.value.value, Value::Scalar { text, .. }
            if entry.key == "sasl.username" && text.contains('='));
        let value = match misplaced || is_credential(&entry.key) {
            true => credential(&entry.value, &entry.key, found)?,
            false => Secret::new(text(&entry.value, &entry.key, found)?.value),
        };
        Some((name, value))
    };
    (entries.iter())
        .filter_map(|entry| property(entry, found))
        .collect()
}

/// Whether a property of librdkafka holds a credential.
fn is_credential(name: &str) -> bool {
    let marks = [
        "password",
        "secret",
        "token",
        ".key.pem",
        "oauthbearer.config",
    ];
    marks.iter().any(|mark| name.contains(mark))
}
