//! Which columns of a source somebody reads: what the decoder need not make is pushed down to it.

use std::collections::BTreeSet;

use thalweg_definition::{Definition, LateThen, Operation, Spanned};

/// The columns of the stream `name` that somebody may read; nothing means all of them.
///
/// Expressions are looked at word by word, so the answer may name more than is read, never less.
pub(crate) fn columns(definition: &Definition, name: &str) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    // Streams that have the columns, each once: streams that part and meet again are many ways, and
    // a wrong definition may have a circle of them.
    let (mut streams, mut seen) = (vec![name], BTreeSet::from([name]));
    while let Some(stream) = streams.pop() {
        let takes = |from: &[Spanned<String>]| from.iter().any(|from| from.value == stream);
        if definition.sinks.iter().any(|sink| takes(&sink.from)) {
            return None;
        }
        for step in definition.steps.iter().filter(|step| takes(&step.from)) {
            if read(&step.operation, &mut all)? && seen.insert(&step.name.value) {
                streams.push(&step.name.value);
            }
        }
    }
    Some(all)
}

/// Adds the columns that an operation may read, and says whether they go on; nothing if it may read
/// all.
fn read(operation: &Operation, all: &mut BTreeSet<String>) -> Option<bool> {
    match operation {
        Operation::Filter(condition) => words(condition, all),
        Operation::Set(assignments) | Operation::Select(assignments) => {
            (assignments.iter()).for_each(|(_, expression)| words(expression, all));
        }
        Operation::Dedup(dedup) => {
            all.extend(dedup.by.iter().map(|column| column.value.clone()));
        }
        Operation::Window(window) if window.late_then != LateThen::Output => {
            all.extend(window.by.iter().map(|column| column.value.clone()));
            (window.aggregate.iter()).for_each(|(_, call)| words(call, all));
        }
        Operation::Union
        | Operation::Drop(_)
        | Operation::Rename(_)
        | Operation::Route(_)
        | Operation::Window(_)
        | Operation::Enrich(_) => return None,
    }
    Some(!matches!(
        operation,
        Operation::Select(_) | Operation::Window(_)
    ))
}

fn words(text: &Spanned<String>, all: &mut BTreeSet<String>) {
    let word = |c: char| !(c.is_alphanumeric() || c == '_' || c == '$');
    all.extend(
        text.value
            .split(word)
            .filter(|word| !word.is_empty())
            .map(str::to_owned),
    );
}
