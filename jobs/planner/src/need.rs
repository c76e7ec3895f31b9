//! Which columns of a source somebody reads: what the decoder need not make is pushed down to it.

use std::collections::BTreeSet;

use thalweg_definition::{Definition, LateThen, Operation, Spanned};

/// The columns of the stream `name` that somebody may read; nothing means all of them.
///
/// Expressions are looked at word by word, so the answer may name more than is read, never less.
pub(crate) fn columns(definition: &Definition, name: &str) -> Option<BTreeSet<String>> {
    let takes = |from: &[Spanned<String>]| from.iter().any(|from| from.value == name);
    if definition.sinks.iter().any(|sink| takes(&sink.from)) {
        return None;
    }
    let mut all = BTreeSet::new();
    for step in definition.steps.iter().filter(|step| takes(&step.from)) {
        let below = || columns(definition, &step.name.value);
        match &step.operation {
            Operation::Filter(condition) => {
                words(condition, &mut all);
                all.extend(below()?);
            }
            Operation::Set(assignments) => {
                assignments
                    .iter()
                    .for_each(|(_, expression)| words(expression, &mut all));
                all.extend(below()?);
            }
            Operation::Select(assignments) => {
                assignments
                    .iter()
                    .for_each(|(_, expression)| words(expression, &mut all));
            }
            Operation::Dedup(dedup) => {
                all.extend(dedup.by.iter().map(|column| column.value.clone()));
                all.extend(below()?);
            }
            Operation::Window(window) if window.late_then != LateThen::Output => {
                all.extend(window.by.iter().map(|column| column.value.clone()));
                window
                    .aggregate
                    .iter()
                    .for_each(|(_, call)| words(call, &mut all));
            }
            Operation::Union
            | Operation::Drop(_)
            | Operation::Rename(_)
            | Operation::Route(_)
            | Operation::Window(_)
            | Operation::Enrich(_) => return None,
        }
    }
    Some(all)
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
