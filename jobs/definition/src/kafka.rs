//! The source `kafka`.

use crate::diagnostic::{Diagnostic, Spanned};
use crate::fields::{Fields, credential, pairs, text};
use crate::model::{Kafka, KafkaStart, Secret};
use crate::tree::{Entry, Node, Value};

type Found = Vec<Diagnostic>;

pub(crate) fn kafka(node: &Node, found: &mut Found) -> Option<Kafka> {
    let mut fields = Fields::of(node, "`kafka`", found)?;
    let brokers = brokers(&mut fields, found);
    let topic = fields.required("topic", found);
    let start = start(&mut fields, found);
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

fn start(fields: &mut Fields<'_>, found: &mut Found) -> Option<KafkaStart> {
    let Some(written) = fields.text("start", found) else {
        return Some(KafkaStart::Earliest);
    };
    let words = ["earliest", "latest"];
    match written.value.as_str() {
        "earliest" => Some(KafkaStart::Earliest),
        "latest" => Some(KafkaStart::Latest),
        time if time.starts_with(|first: char| first.is_ascii_digit()) => {
            let message = "`start` at a time is not supported yet; there are earliest and latest";
            found.push(Diagnostic::error(written.span, message));
            None
        }
        other => {
            let message = format!("`start` is one of {}, not `{other}`", words.join(", "));
            found.push(Diagnostic::error(written.span, message).nearest(other, words));
            None
        }
    }
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
