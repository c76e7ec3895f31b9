//! The document as a whole: its parts, their names, and what refers to what.

use std::collections::BTreeMap;
use std::path::Path;

use crate::azure;
use crate::diagnostic::{Diagnostic, Span, Spanned};
use crate::fields::Fields;
use crate::model::{
    Checkpoint, DeadLetters, Definition, Delivery, FileSink, LateThen, Operation, Settings, Sink,
    SinkKind, Step, WhenFull,
};
use crate::tree::{Entry, Node, Value};
use crate::{operator, source};

type Found = Vec<Diagnostic>;

/// Most steps of a job.
const STEPS_MAX: usize = 500;
const DELIVERIES: [(&str, Delivery); 2] = [
    ("exactly-once", Delivery::ExactlyOnce),
    ("at-least-once", Delivery::AtLeastOnce),
];

pub(crate) fn definition(tree: &Node, folder: &Path, found: &mut Found) -> Option<Definition> {
    let mut fields = Fields::of(tree, "a definition", found)?;
    let job = fields.required("job", found);
    if let Some(job) = &job {
        check_name(&job.value, job.span, found);
    }
    let description = fields.text("description", found).map(|text| text.value);
    let settings = settings(fields.node("settings"), found);
    fields.later(&["plugins"], found);
    let sources = named(&mut fields, "sources", found, source::source);
    let tables = named(&mut fields, "tables", found, source::table);
    let steps = named(&mut fields, "steps", found, operator::step);
    let sinks = named(&mut fields, "sinks", found, sink);
    if steps.len() > STEPS_MAX {
        let message = format!(
            "a job has at most {STEPS_MAX} steps, this one {}",
            steps.len()
        );
        found.push(Diagnostic::error(tree.span, message));
    }
    fields.finish(found);
    let definition = Definition {
        job: job?.value,
        description,
        folder: folder.to_owned(),
        settings: settings?,
        sources,
        tables,
        steps,
        sinks,
    };
    check_references(&definition, tree, found);
    Some(definition)
}

fn named<T>(
    fields: &mut Fields<'_>,
    part: &'static str,
    found: &mut Found,
    read: impl Fn(&Spanned<String>, &Node, &mut Found) -> Option<T>,
) -> Vec<T> {
    let Some(node) = fields.node(part) else {
        return Vec::new();
    };
    let Value::Map(entries) = &node.value else {
        let message = format!("`{part}` is a mapping of names, not {}", node.kind());
        found.push(Diagnostic::error(node.span, message));
        return Vec::new();
    };
    let one = |entry: &Entry| {
        check_name(&entry.key, entry.at, found);
        read(
            &Spanned::new(entry.key.clone(), entry.at),
            &entry.value,
            found,
        )
    };
    entries.iter().filter_map(one).collect()
}

fn check_name(name: &str, span: Span, found: &mut Found) {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_lowercase());
    let rest = letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c));
    if !first || !rest || name.len() > 63 {
        let message = format!("`{name}` is no name: names match [a-z][a-z0-9_-]{{0,62}}");
        found.push(Diagnostic::error(span, message));
    }
}

fn settings(node: Option<&Node>, found: &mut Found) -> Option<Settings> {
    let mut settings = Settings {
        checkpoint: Checkpoint {
            every_ms: 10_000,
            to: "./checkpoints".to_owned(),
            keep: 3,
        },
        delivery: None,
        dead_letters: DeadLetters {
            path: "./dead-letters.jsonl".to_owned(),
            max_bytes: 256 << 20,
            when_full: WhenFull::Stop,
        },
    };
    let Some(node) = node else {
        return Some(settings);
    };
    let mut fields = Fields::of(node, "`settings`", found)?;
    if let Some(node) = fields.node("checkpoint") {
        let mut fields = Fields::of(node, "`checkpoint`", found)?;
        let checkpoint = &mut settings.checkpoint;
        checkpoint.every_ms = fields
            .duration("every", found)
            .unwrap_or(checkpoint.every_ms);
        checkpoint.to = fields
            .text("to", found)
            .map_or(checkpoint.to.clone(), |to| to.value);
        checkpoint.keep = fields
            .number("keep", found)
            .unwrap_or(checkpoint.keep)
            .max(1);
        fields.finish(found);
    }
    settings.delivery = fields.word("delivery", &DELIVERIES, found);
    if let Some(node) = fields.node("dead_letters") {
        let mut fields = Fields::of(node, "`dead_letters`", found)?;
        let later = [
            "kafka",
            "eventhubs",
            "cosmos",
            "adx",
            "blob",
            "stdout",
            "discard",
        ];
        if let Some((_, node)) = fields.one_of(&["file"], &later, found) {
            let mut fields = Fields::of(node, "`file`", found)?;
            let letters = &mut settings.dead_letters;
            letters.path = fields
                .text("path", found)
                .map_or(letters.path.clone(), |p| p.value);
            letters.max_bytes = fields.size("max_size", found).unwrap_or(letters.max_bytes);
            let words = [
                ("stop", WhenFull::Stop),
                ("drop-oldest", WhenFull::DropOldest),
            ];
            letters.when_full = fields
                .word("when_full", &words, found)
                .unwrap_or(letters.when_full);
            fields.finish(found);
        }
        fields.finish(found);
    }
    fields.later(&["restart", "workers", "memory"], found);
    fields.finish(found);
    Some(settings)
}

/// The sinks there are.
const SINKS: [&str; 5] = ["file", "stdout", "discard", "cosmos", "adx"];

fn sink(name: &Spanned<String>, node: &Node, found: &mut Found) -> Option<Sink> {
    let mut fields = Fields::of(node, format!("sink `{}`", name.value), found)?;
    let from = fields.texts("from", found);
    if from.is_empty() {
        fields.missing("from", found);
    }
    let at = fields.node("delivery").map_or(node.span, |node| node.span);
    let delivery = fields
        .word("delivery", &DELIVERIES, found)
        .map(|d| Spanned::new(d, at));
    let later = ["kafka", "eventhubs", "blob", "digital_twins", "webhook"];
    // `stdout:` and `discard:` may stand without a value.
    let mut bare = None;
    if let Value::Map(entries) = &node.value {
        let null = |name| entries.iter().any(|e| e.key == name && e.value.is_null());
        bare = null("stdout").then_some(SinkKind::Stdout);
        bare = bare.or_else(|| null("discard").then_some(SinkKind::Discard));
    }
    let kind = match bare {
        Some(kind) => {
            for name in SINKS {
                fields.entry(name);
            }
            Some(kind)
        }
        None => match fields.one_of(&SINKS, &later, found) {
            Some(("file", node)) => file_sink(node, found).map(SinkKind::File),
            Some(("cosmos", node)) => azure::cosmos(node, found).map(SinkKind::Cosmos),
            Some(("adx", node)) => azure::adx(node, found).map(SinkKind::Adx),
            Some(("stdout", node)) => empty(node, "stdout", found).map(|()| SinkKind::Stdout),
            Some((_, node)) => empty(node, "discard", found).map(|()| SinkKind::Discard),
            None => None,
        },
    };
    fields.finish(found);
    Some(Sink {
        name: name.clone(),
        from,
        kind: kind?,
        delivery,
    })
}

fn empty(node: &Node, what: &str, found: &mut Found) -> Option<()> {
    Fields::of(node, format!("`{what}`"), found)?.finish(found);
    Some(())
}

fn file_sink(node: &Node, found: &mut Found) -> Option<FileSink> {
    let mut fields = Fields::of(node, "`file`", found)?;
    let path = fields.required("path", found);
    if let Some(format) = fields
        .text("format", found)
        .filter(|format| format.value != "json")
    {
        let message = format!("format `{}` is not supported yet", format.value);
        found.push(Diagnostic::error(format.span, message));
    }
    let unix_ms = fields.word(
        "timestamps",
        &[("rfc3339", false), ("unix_ms", true)],
        found,
    );
    let omit_nulls = fields.word("nulls", &[("write", false), ("omit", true)], found);
    let mut roll_bytes = None;
    if let Some(mut roll) = fields
        .node("roll")
        .and_then(|node| Fields::of(node, "`roll`", found))
    {
        roll_bytes = roll.size("size", found);
        roll.later(&["every"], found);
        roll.finish(found);
    }
    fields.later(&["partition_by"], found);
    fields.finish(found);
    let (unix_ms, omit_nulls) = (unix_ms.unwrap_or(false), omit_nulls.unwrap_or(false));
    Some(FileSink {
        path: path?,
        roll_bytes,
        unix_ms,
        omit_nulls,
    })
}

/// One namespace, and `from` names something that exists and comes first.
fn check_references(definition: &Definition, tree: &Node, found: &mut Found) {
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    let all = (definition.sources.iter().map(|s| &s.name))
        .chain(definition.tables.iter().map(|t| &t.source.name))
        .chain(definition.steps.iter().map(|s| &s.name))
        .chain(definition.sinks.iter().map(|s| &s.name));
    for name in all {
        if let Some(first) = names.insert(&name.value, name.span) {
            let message = format!(
                "`{}` is the name of something else, in line {}",
                name.value, first.line
            );
            found.push(Diagnostic::error(name.span, message));
        }
    }
    // Parts that could not be read are still names: they have told their own errors.
    let written = written(tree, &["sources", "steps"]);
    let mut outputs: BTreeMap<String, ()> = written.iter().map(|name| (name.clone(), ())).collect();
    for step in &definition.steps {
        outputs.extend(step_outputs(step).into_iter().map(|output| (output, ())));
    }
    let froms = (definition.steps.iter().flat_map(|s| &s.from))
        .chain(definition.sinks.iter().flat_map(|s| &s.from));
    for from in froms.filter(|from| !outputs.contains_key(&from.value)) {
        let message = if definition
            .tables
            .iter()
            .any(|t| t.source.name.value == from.value)
        {
            format!("`{}` is a table: use it in `enrich`", from.value)
        } else {
            format!("there is no source or step `{}`", from.value)
        };
        let error = Diagnostic::error(from.span, message);
        found.push(error.nearest(&from.value, outputs.keys().map(String::as_str)));
    }
    if written.is_empty() {
        found.push(Diagnostic::error(
            tree.span,
            "a definition has at least one source",
        ));
    }
    cycles(definition, found);
}

fn written(tree: &Node, parts: &[&str]) -> Vec<String> {
    let Value::Map(entries) = &tree.value else {
        return Vec::new();
    };
    let parts = entries
        .iter()
        .filter(|entry| parts.contains(&entry.key.as_str()));
    let names = parts.flat_map(|entry| match &entry.value.value {
        Value::Map(entries) => entries.iter().map(|entry| entry.key.clone()).collect(),
        Value::Scalar { .. } | Value::List(_) => Vec::new(),
    });
    names.collect()
}

fn step_outputs(step: &Step) -> Vec<String> {
    let part = |name: &str| format!("{}.{name}", step.name.value);
    match &step.operation {
        Operation::Route(outputs) => outputs.iter().map(|(name, _)| part(&name.value)).collect(),
        Operation::Window(window) if window.late_then == LateThen::Output => vec![part("late")],
        _ => Vec::new(),
    }
}

fn cycles(definition: &Definition, found: &mut Found) {
    let inputs: BTreeMap<&str, Vec<&str>> = (definition.steps.iter())
        .map(|step| {
            let from = step
                .from
                .iter()
                .map(|f| f.value.split('.').next().unwrap_or_default());
            (step.name.value.as_str(), from.collect())
        })
        .collect();
    for step in &definition.steps {
        let (mut open, mut seen) = (
            inputs
                .get(step.name.value.as_str())
                .cloned()
                .unwrap_or_default(),
            Vec::new(),
        );
        while let Some(name) = open.pop() {
            if name == step.name.value {
                let message = format!(
                    "step `{name}` takes its own output, through {}",
                    if seen.is_empty() {
                        "nothing else".to_owned()
                    } else {
                        seen.join(", ")
                    }
                );
                found.push(Diagnostic::error(step.name.span, message));
                break;
            }
            if !seen.contains(&name.to_owned()) {
                seen.push(name.to_owned());
                open.extend(inputs.get(name).into_iter().flatten());
            }
        }
    }
}
