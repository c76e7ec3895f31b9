//! Steps.

use crate::diagnostic::{Diagnostic, Spanned};
use crate::fields::{Fields, pairs, text, texts};
use crate::model::{AsOf, Dedup, Enrich, LateThen, Missing, OnError, Operation, Step, Window};
use crate::quantity;
use crate::tree::{Node, Value};

type Found = Vec<Diagnostic>;

const OPERATIONS: [&str; 9] = [
    "filter", "select", "set", "drop", "rename", "route", "dedup", "window", "enrich",
];
const LATER: [&str; 7] = [
    "explode", "join", "view", "plugin", "detect", "sql", "lookup",
];

pub(crate) fn step(name: &Spanned<String>, node: &Node, found: &mut Found) -> Option<Step> {
    let mut fields = Fields::of(node, format!("step `{}`", name.value), found)?;
    let from = fields.texts("from", found);
    if from.is_empty() {
        fields.missing("from");
    }
    let id = fields
        .text("id", found)
        .map_or_else(|| name.value.clone(), |id| id.value);
    let words = [
        ("dead-letter", OnError::DeadLetter),
        ("skip", OnError::Skip),
        ("fail", OnError::Fail),
    ];
    let on_error = fields.word("on_error", &words, found).unwrap_or_default();
    fields.later(&["parallelism"], found);
    let is_union = from.len() > 1 && !has_operation(node);
    let operation = if is_union {
        Some(Operation::Union)
    } else {
        let one = fields.one_of(&OPERATIONS, &LATER, found);
        one.and_then(|(kind, node)| operation(kind, node, found))
    };
    if is_union {
        // None of them is there.
        for name in OPERATIONS {
            fields.entry(name);
        }
        fields.later(&LATER, found);
    }
    fields.finish(found);
    Some(Step {
        name: name.clone(),
        id,
        from,
        operation: operation?,
        on_error,
    })
}

fn has_operation(node: &Node) -> bool {
    let Value::Map(entries) = &node.value else {
        return false;
    };
    entries
        .iter()
        .any(|e| OPERATIONS.contains(&e.key.as_str()) || LATER.contains(&e.key.as_str()))
}

fn operation(kind: &str, node: &Node, found: &mut Found) -> Option<Operation> {
    Some(match kind {
        "filter" => Operation::Filter(text(node, kind, found)?),
        "select" => Operation::Select(pairs(node, kind, found)),
        "set" => Operation::Set(pairs(node, kind, found)),
        "drop" => Operation::Drop(texts(node, kind, found)),
        "rename" => Operation::Rename(pairs(node, kind, found)),
        "route" => Operation::Route(route(node, found)),
        "dedup" => Operation::Dedup(dedup(node, found)?),
        "window" => Operation::Window(window(node, found)?),
        _ => Operation::Enrich(enrich(node, found)?),
    })
}

fn route(node: &Node, found: &mut Found) -> Vec<(Spanned<String>, Option<Spanned<String>>)> {
    let outputs = pairs(node, "route", found);
    let last = outputs.len().saturating_sub(1);
    let mut routed = Vec::new();
    for (at, (name, condition)) in outputs.into_iter().enumerate() {
        let otherwise = condition.value == "otherwise";
        if otherwise && at < last {
            let message = "`otherwise` takes all that comes to it, so it is the last output";
            found.push(Diagnostic::error(condition.span, message));
        }
        routed.push((name, (!otherwise).then_some(condition)));
    }
    routed
}

fn dedup(node: &Node, found: &mut Found) -> Option<Dedup> {
    let mut fields = Fields::of(node, "`dedup`", found)?;
    let by = fields.texts("by", found);
    if by.is_empty() {
        fields.missing("by");
    }
    let sequence = fields.later(&["sequence"], found);
    if fields.entry("within").is_none() && !sequence {
        fields.missing("within");
    }
    let within_ms = fields.positive_duration("within", found);
    let same_time = fields.flag("same_time", found).unwrap_or(false);
    let at = fields.node("keep").map_or(node.span, |node| node.span);
    if fields.word("keep", &[("first", false), ("last", true)], found) == Some(true) {
        found.push(Diagnostic::error(at, "`keep: last` is not supported yet"));
    }
    fields.finish(found);
    Some(Dedup {
        by,
        within_ms: within_ms?,
        same_time,
    })
}

fn window(node: &Node, found: &mut Found) -> Option<Window> {
    let mut fields = Fields::of(node, "`window`", found)?;
    let later = ["hopping", "sliding", "session", "snapshot"];
    let size = fields.one_of(&["tumbling"], &later, found);
    let size_ms = size.and_then(|(_, node)| {
        let size = text(node, "tumbling", found)?;
        let ms = quantity::duration_ms(&size.value).filter(|ms| *ms > 0);
        if ms.is_none() {
            let message = format!(
                "`tumbling` is a duration above zero such as 10s, not `{}`",
                size.value
            );
            found.push(Diagnostic::error(size.span, message));
        }
        ms
    });
    let by = fields.texts("by", found);
    let aggregate = fields.pairs("aggregate", found);
    let having = fields.text("having", found);
    let form = "a duration such as 10s or -10s";
    let offset = fields.parsed("offset", form, quantity::signed_duration_ms, found);
    let offset_ms = offset.unwrap_or(0);
    fields.later(&["early"], found);
    let (mut late_allowed_ms, mut late_then) = (0, LateThen::default());
    if let Some(mut late) = fields
        .node("late")
        .and_then(|node| Fields::of(node, "`late`", found))
    {
        late_allowed_ms = late.duration("allowed", found).unwrap_or(0);
        let words = [
            ("drop", LateThen::Drop),
            ("dead-letter", LateThen::DeadLetter),
            ("output", LateThen::Output),
        ];
        late_then = late.word("then", &words, found).unwrap_or_default();
        late.finish(found);
    }
    fields.finish(found);
    Some(Window {
        size_ms: size_ms?,
        offset_ms,
        by,
        aggregate,
        having,
        late_allowed_ms,
        late_then,
    })
}

fn enrich(node: &Node, found: &mut Found) -> Option<Enrich> {
    let mut fields = Fields::of(node, "`enrich`", found)?;
    let lookup = ["lookup", "cache", "timeout", "concurrency", "order"];
    if fields.later(&lookup, found) {
        return None;
    }
    let with = fields.required("with", found);
    let on = both(&mut fields, "on", found);
    let take = both(&mut fields, "take", found);
    let words = [
        ("keep", Missing::Keep),
        ("drop", Missing::Drop),
        ("dead-letter", Missing::DeadLetter),
    ];
    let missing = fields.word("missing", &words, found).unwrap_or_default();
    let as_of = fields.word("as_of", &[("event_time", ())], found);
    let wait_ms = fields.duration("wait", found);
    if let (None, Some(wait)) = (as_of, fields.entry("wait")) {
        let message = "`wait` is for `as_of: event_time` only";
        found.push(Diagnostic::error(wait.at, message));
    }
    fields.finish(found);
    let as_of = as_of.map(|()| AsOf {
        wait_ms: wait_ms.unwrap_or(30_000),
    });
    Some(Enrich {
        with: with?,
        on,
        take,
        missing,
        as_of,
    })
}

/// Names, or a mapping of two names each; a name alone stands for both.
fn both(
    fields: &mut Fields<'_>,
    name: &'static str,
    found: &mut Found,
) -> Vec<(Spanned<String>, Spanned<String>)> {
    match fields.node(name) {
        None => {
            fields.missing(name);
            Vec::new()
        }
        Some(node) if matches!(node.value, Value::Map(_)) => pairs(node, name, found),
        Some(node) => texts(node, name, found)
            .into_iter()
            .map(|n| (n.clone(), n))
            .collect(),
    }
}
