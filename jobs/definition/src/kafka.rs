//! The source `kafka`.

use crate::diagnostic::{Diagnostic, Spanned};
use crate::fields::{Fields, pairs};
use crate::model::{Kafka, KafkaStart, Secret};
use crate::tree::Node;

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
        fields.missing("brokers", found);
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

/// The properties. Any of them may be a credential, so all are kept as such.
fn properties(node: &Node, found: &mut Found) -> Vec<(Spanned<String>, Secret)> {
    (pairs(node, "properties", found).into_iter())
        .map(|(name, value)| (name, Secret::new(value.value)))
        .collect()
}
