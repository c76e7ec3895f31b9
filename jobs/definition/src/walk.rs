//! The document as a whole: its parts, their names, and what refers to what.

mod cycle;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::azure;
use crate::diagnostic::{Diagnostic, Severity, Span, Spanned};
use crate::fields::{Fields, texts};
use crate::model::{
    Checkpoint, DeadLetters, Definition, Delivery, FileSink, LateThen, Operation, Restart,
    Settings, Sink, SinkKind, Step, WhenFull,
};
use crate::tree::{Entry, Node, Value};
use crate::{format, operator, plugin, source};

type Found = Vec<Diagnostic>;

/// Most steps of a job.
const STEPS_MAX: usize = 500;
/// Beyond so much that is wrong nothing is said of what was meant.
const HINTED_MAX: usize = 20;
/// Most outputs of a step that are listed.
const LISTED_MAX: usize = 20;
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
    let plugins = named(
        &mut fields,
        "plugins",
        &mut Vec::new(),
        found,
        plugin::plugin,
    );
    let mut damaged = Vec::new();
    let sources = named(&mut fields, "sources", &mut damaged, found, source::source);
    let tables = named(&mut fields, "tables", &mut damaged, found, source::table);
    let steps = named(&mut fields, "steps", &mut damaged, found, operator::step);
    let sinks = named(&mut fields, "sinks", &mut damaged, found, sink);
    if steps.len() > STEPS_MAX {
        let message = format!(
            "a job has at most {STEPS_MAX} steps, this one {}",
            steps.len()
        );
        found.push(Diagnostic::error(tree.span, message));
    }
    fields.finish(found);
    let definition = Definition {
        job: job.map(|job| job.value).unwrap_or_default(),
        description,
        folder: folder.to_owned(),
        settings,
        plugins,
        sources,
        tables,
        steps,
        sinks,
        damaged,
    };
    // Beyond the limit, looking up what refers to what takes its time and tells nothing new.
    if written(tree, &["steps"]).len() <= STEPS_MAX {
        check_references(&definition, tree, found);
    }
    Some(definition)
}

fn named<T>(
    fields: &mut Fields<'_>,
    part: &'static str,
    damaged: &mut Vec<String>,
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
    let mut whole = Vec::new();
    for entry in entries {
        let mut wrong = Vec::new();
        check_name(&entry.key, entry.at, &mut wrong);
        let name = Spanned::new(entry.key.clone(), entry.at);
        let read = read(&name, &entry.value, &mut wrong);
        match read {
            Some(read) if wrong.iter().all(|w| w.severity == Severity::Warning) => whole.push(read),
            _ => damaged.push(name.value),
        }
        found.append(&mut wrong);
    }
    whole
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

fn settings(node: Option<&Node>, found: &mut Found) -> Settings {
    let mut settings = Settings {
        checkpoint: Checkpoint {
            every_ms: 10_000,
            to: "./checkpoints".to_owned(),
            keep: 3,
        },
        delivery: None,
        dead_letters: DeadLetters {
            at: Span::START,
            path: "./dead-letters.jsonl".to_owned(),
            max_bytes: 256 << 20,
            when_full: WhenFull::Stop,
        },
        restart: Restart {
            attempts: 20,
            delay_ms: 500,
            delay_max_ms: 30_000,
            reset_after_ms: 120_000,
        },
    };
    let Some(mut fields) = node.and_then(|node| Fields::of(node, "`settings`", found)) else {
        return settings;
    };
    if let Some(node) = fields.node("checkpoint") {
        checkpoint(node, &mut settings.checkpoint, found);
    }
    settings.delivery = fields.word("delivery", &DELIVERIES, found);
    if let Some(node) = fields.node("dead_letters") {
        dead_letters(node, &mut settings.dead_letters, found);
    }
    if let Some(node) = fields.node("restart") {
        restart(node, &mut settings.restart, found);
    }
    fields.later(&["workers", "memory"], found);
    fields.finish(found);
    settings
}

fn restart(node: &Node, restart: &mut Restart, found: &mut Found) {
    if matches!(&node.value, Value::Scalar { text, .. } if text == "never") {
        restart.attempts = 0;
        return;
    }
    let Some(mut fields) = Fields::of(node, "`restart`", found) else {
        return;
    };
    let attempts = fields.number("attempts", found);
    restart.attempts = attempts.unwrap_or(restart.attempts);
    let delay = fields.positive_duration("delay", found);
    restart.delay_ms = delay.unwrap_or(restart.delay_ms);
    let delay_max = fields.positive_duration("delay_max", found);
    restart.delay_max_ms = delay_max.unwrap_or(restart.delay_max_ms.max(restart.delay_ms));
    let reset_after = fields.positive_duration("reset_after", found);
    restart.reset_after_ms = reset_after.unwrap_or(restart.reset_after_ms);
    if restart.delay_max_ms < restart.delay_ms {
        let message = "`delay_max` is shorter than `delay`".to_owned();
        found.push(Diagnostic::error(node.span, message));
    }
    fields.finish(found);
}

fn checkpoint(node: &Node, checkpoint: &mut Checkpoint, found: &mut Found) {
    let Some(mut fields) = Fields::of(node, "`checkpoint`", found) else {
        return;
    };
    let every = fields.positive_duration("every", found);
    checkpoint.every_ms = every.unwrap_or(checkpoint.every_ms);
    if let Some(to) = fields.filled("to", found) {
        let scheme = to.value.split_once("://").map(|(scheme, _)| scheme);
        match scheme {
            None | Some("memory" | "file") => checkpoint.to = to.value,
            Some("az" | "s3") => {
                let message = format!("checkpoints in `{}` are not supported yet", to.value);
                let hint = "a directory, or memory://NAME";
                found.push(Diagnostic::error(to.span, message).hint(hint));
            }
            Some(scheme) => {
                let message = format!("there is no store `{scheme}://`");
                let hint = "a directory, or memory://NAME";
                found.push(Diagnostic::error(to.span, message).hint(hint));
            }
        }
    }
    let keep = fields.parsed(
        "keep",
        "a number from 1 on",
        |text| text.parse().ok().filter(|keep| *keep > 0),
        found,
    );
    checkpoint.keep = keep.unwrap_or(checkpoint.keep);
    fields.finish(found);
}

fn dead_letters(node: &Node, letters: &mut DeadLetters, found: &mut Found) {
    let Some(mut fields) = Fields::of(node, "`dead_letters`", found) else {
        return;
    };
    let later = [
        "stdout",
        "discard",
        "kafka",
        "eventhubs",
        "cosmos",
        "adx",
        "blob",
        "digital_twins",
        "webhook",
    ];
    let file = fields.one_of(&["file"], &later, found);
    if let Some(mut fields) = file.and_then(|(_, node)| Fields::of(node, "`file`", found)) {
        letters.at = node.span;
        let path = fields.filled("path", found).map(|path| path.value);
        letters.path = path.unwrap_or_else(|| letters.path.clone());
        letters.max_bytes = fields.size("max_size", found).unwrap_or(letters.max_bytes);
        let words = [
            ("stop", WhenFull::Stop),
            ("drop-oldest", WhenFull::DropOldest),
        ];
        let when_full = fields.word("when_full", &words, found);
        letters.when_full = when_full.unwrap_or(letters.when_full);
        fields.finish(found);
    }
    fields.finish(found);
}

/// The sinks there are.
const SINKS: [&str; 5] = ["file", "stdout", "discard", "cosmos", "adx"];

fn sink(name: &Spanned<String>, node: &Node, found: &mut Found) -> Option<Sink> {
    let mut fields = Fields::of(node, format!("sink `{}`", name.value), found)?;
    let from = fields.texts("from", found);
    if from.is_empty() {
        fields.missing("from");
    }
    let at = fields.node("delivery").map_or(node.span, |node| node.span);
    let delivery = fields
        .word("delivery", &DELIVERIES, found)
        .map(|d| Spanned::new(d, at));
    let later = ["kafka", "eventhubs", "blob", "digital_twins", "webhook"];
    let connector = fields.one_of(&SINKS, &later, found);
    let mut options = BTreeMap::new();
    if let Some((_, node)) = connector {
        places(node, "", &mut options);
    }
    let kind = match connector {
        Some(("file", node)) => file_sink(node, found).map(SinkKind::File),
        Some(("cosmos", node)) => azure::cosmos(node, found).map(SinkKind::Cosmos),
        Some(("adx", node)) => azure::adx(node, found).map(SinkKind::Adx),
        Some(("stdout", node)) => empty(node, "stdout", found).map(|()| SinkKind::Stdout),
        Some((_, node)) => empty(node, "discard", found).map(|()| SinkKind::Discard),
        None => None,
    };
    fields.finish(found);
    Some(Sink {
        name: name.clone(),
        from,
        kind: kind?,
        options,
        delivery,
    })
}

/// Where the values of a mapping stand, by their names and those of the mappings around them.
fn places(node: &Node, around: &str, places_by_name: &mut BTreeMap<String, Span>) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    for entry in entries {
        let name = format!("{around}{}", entry.key);
        places(&entry.value, &format!("{name}."), places_by_name);
        places_by_name.insert(name, entry.value.span);
    }
}

fn empty(node: &Node, what: &str, found: &mut Found) -> Option<()> {
    Fields::of(node, format!("`{what}`"), found)?.finish(found);
    Some(())
}

fn file_sink(node: &Node, found: &mut Found) -> Option<FileSink> {
    let mut fields = Fields::of(node, "`file`", found)?;
    let path = fields.required("path", found);
    let csv = format::of_sink(&mut fields, found);
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
        csv,
        roll_bytes,
        unix_ms,
        omit_nulls,
    })
}

/// One namespace, and `from` names something that exists and comes first.
fn check_references(definition: &Definition, tree: &Node, found: &mut Found) {
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    for entry in written(tree, &["sources", "tables", "steps", "sinks"]) {
        if let Some(first) = names.insert(&entry.key, entry.at) {
            let message = format!(
                "`{}` is the name of something else, in line {}",
                entry.key, first.line
            );
            found.push(Diagnostic::error(entry.at, message));
        }
    }
    // Parts that could not be read are still names: they have told their own errors.
    let written_names = written(tree, &["sources", "steps"]).into_iter();
    let mut outputs: BTreeSet<String> = written_names.map(|entry| entry.key.clone()).collect();
    for step in &definition.steps {
        if matches!(step.operation, Operation::Route(_)) {
            outputs.remove(&step.name.value);
        }
        outputs.extend(step_outputs(step));
    }
    for from in written(tree, &["steps", "sinks"])
        .into_iter()
        .flat_map(inputs)
    {
        check_input(definition, &outputs, &from, found);
    }
    if written(tree, &["sources"]).is_empty() {
        let message = "a definition has at least one source";
        found.push(Diagnostic::error(tree.span, message));
    }
    cycle::refuse(&definition.steps, found);
}

/// Whether what a step or sink takes is there.
fn check_input(
    definition: &Definition,
    outputs: &BTreeSet<String>,
    from: &Spanned<String>,
    found: &mut Found,
) {
    let (base, output) = match from.value.split_once('.') {
        Some((base, output)) => (base, Some(output)),
        None => (from.value.as_str(), None),
    };
    let damaged = definition.damaged.iter().any(|name| name == base);
    if outputs.contains(&from.value) || (damaged && output.is_some()) {
        return;
    }
    if found.len() >= HINTED_MAX {
        // What it may have meant takes time to find out, and nobody follows hundreds of hints.
        let message = format!("there is no source or step `{}`", from.value);
        return found.push(Diagnostic::error(from.span, message));
    }
    let mut tables = definition.tables.iter().map(|t| &t.source.name.value);
    let prefix = format!("{base}.");
    let parts: Vec<&str> = (outputs.range(prefix.clone()..))
        .take_while(|name| name.starts_with(&prefix))
        .map(String::as_str)
        .take(LISTED_MAX)
        .collect();
    let message = if tables.any(|table| *table == from.value) {
        format!("`{}` is a table: use it in `enrich`", from.value)
    } else if !parts.is_empty() {
        let parts = parts.join(", ");
        format!("there is no output `{}`; there is {parts}", from.value)
    } else if output.is_some() && outputs.contains(base) {
        format!("`{base}` has one output, which is called `{base}`")
    } else {
        format!("there is no source or step `{}`", from.value)
    };
    let error = Diagnostic::error(from.span, message);
    found.push(error.nearest(&from.value, outputs.iter().map(String::as_str)));
}

/// The names that are written in some parts of the document, and what stands there.
fn written<'a>(tree: &'a Node, parts: &[&str]) -> Vec<&'a Entry> {
    let Value::Map(entries) = &tree.value else {
        return Vec::new();
    };
    let parts = entries
        .iter()
        .filter(|entry| parts.contains(&entry.key.as_str()));
    let names = parts.flat_map(|entry| match &entry.value.value {
        Value::Map(entries) => entries.iter().collect(),
        Value::Scalar { .. } | Value::List(_) => Vec::new(),
    });
    names.collect()
}

/// What a written step or sink takes.
fn inputs(entry: &Entry) -> Vec<Spanned<String>> {
    let Value::Map(fields) = &entry.value.value else {
        return Vec::new();
    };
    let from = fields.iter().filter(|field| field.key == "from");
    from.flat_map(|field| texts(&field.value, "from", &mut Vec::new()))
        .filter(|from| !from.value.is_empty())
        .collect()
}

fn step_outputs(step: &Step) -> Vec<String> {
    let part = |name: &str| format!("{}.{name}", step.name.value);
    match &step.operation {
        Operation::Route(outputs) => outputs.iter().map(|(name, _)| part(&name.value)).collect(),
        Operation::Window(window) if window.late_then == LateThen::Output => vec![part("late")],
        Operation::Union
        | Operation::Filter(_)
        | Operation::Select(_)
        | Operation::Set(_)
        | Operation::Drop(_)
        | Operation::Rename(_)
        | Operation::Dedup(_)
        | Operation::Window(_)
        | Operation::Enrich(_) => Vec::new(),
    }
}
