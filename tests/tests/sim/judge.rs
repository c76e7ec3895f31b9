//! The judge: what became visible, against the model at the cuts that the manifests record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use serde_json::Value;
use thalweg_checkpoint::inspect;
use thalweg_checkpoint::name::COMPACTION;
use thalweg_stream::{EpochKind, Ledger};

use crate::job::Shape;
use crate::model::{Letter, answer, canonical};
use crate::outside::{Outside, Row, is_refused};
use crate::record::{Extent, Input};
use crate::world::World;

/// Everything that is wrong.
pub(crate) fn judge(shape: &Shape, outside: &Outside, world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let model = answer(shape, &outside.commits);
    if !has_read_all(&shape.input, outside) {
        wrong.push("there are records that were not read".to_owned());
    }
    let mut refused = BTreeMap::new();
    let mut sinks = vec![("results", &model.results)];
    match shape.repeats {
        true => at_least_once(&shape.input, outside, &model.history, world, &mut wrong),
        false => sinks.push(("history", &model.history)),
    }
    for (sink, expected) in sinks {
        let mut visible: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for rows in units(outside, sink) {
            let mut commits = BTreeSet::new();
            for (epoch, row) in rows {
                let commit = commit(outside, *epoch);
                commits.insert(commit);
                visible.entry(commit).or_default().push(canonical(row));
            }
            if commits.len() > 1 {
                world.sometimes("a unit held output of several checkpoints");
            }
        }
        // Rows that the service has refused are dead letters instead.
        for ((of, id), row) in &outside.refused {
            let epoch = id.split('-').next().and_then(|epoch| epoch.parse().ok());
            if of == sink {
                let commit = commit(outside, epoch.expect("an id begins with an epoch"));
                visible.entry(commit).or_default().push(canonical(row));
                refused.insert((of.clone(), id.clone()), row.clone());
            }
        }
        compare(sink, visible, expected.clone(), &mut wrong);
    }
    letters(outside, &model.letters, &refused, &mut wrong);
    ordered(outside, &mut wrong);
    conserved(outside, &mut wrong);
    kept(outside, &mut wrong);
    if model.duplicates > 0 {
        world.sometimes("rows were dropped as duplicates");
    }
    if model.held > 0 {
        world.sometimes("a checkpoint held rows that waited for the table");
    }
    if !refused.is_empty() {
        world.sometimes("a service refused rows");
    }
    for (class, what) in [
        ("late", "rows came too late"),
        ("operator", "a guest trapped"),
    ] {
        let mut letters = model.letters.values().flatten();
        if letters.any(|letter| letter.0 == class) {
            world.sometimes(what);
        }
    }
    for manifest in outside.commits.values() {
        if manifest.cuts.iter().all(|cut| cut.offsets.is_empty()) {
            world.sometimes("a checkpoint without new input");
        }
        for (_, idle) in manifest.cuts.iter().flat_map(|cut| &cut.idle) {
            world.sometimes(match idle {
                true => "a split became idle",
                false => "a split that was idle woke",
            });
        }
        if manifest.kind == EpochKind::Savepoint {
            world.sometimes("a savepoint");
        }
        let mut parts = manifest.state.parts.iter();
        if parts.any(|part| part.id.worker == COMPACTION) {
            world.sometimes("state was compacted");
        }
    }
    wrong
}

/// Whether the newest commit has all there is.
pub(crate) fn has_read_all(input: &Input, outside: &Outside) -> bool {
    let newest = outside.commits.values().next_back();
    newest.is_some_and(|manifest| {
        ["reports", "versions"].iter().all(|source| {
            let Extent { splits, count, .. } = input.extent(source);
            let record = manifest.sources.get(*source);
            let offsets = record.into_iter().flat_map(|record| &record.splits);
            offsets
                .map(|split| split.offset)
                .eq((0..splits).map(|_| Some(count)))
        })
    })
}

/// The commit that has what was staged in an epoch.
fn commit(outside: &Outside, staged: u64) -> u64 {
    let commit = outside.commits.range(staged..).next();
    commit.map_or(u64::MAX, |(commit, _)| *commit)
}

/// Rows by unit.
fn units<'a>(outside: &'a Outside, sink: &'a str) -> impl Iterator<Item = &'a Vec<Row>> {
    let units = outside.units.iter();
    units
        .filter(move |((of, ..), _)| of == sink)
        .map(|(_, rows)| rows)
}

/// A sink that may repeat rows has lost none; what it has too much is of the input.
fn at_least_once(
    input: &Input,
    outside: &Outside,
    expected: &BTreeMap<u64, Vec<String>>,
    world: &World,
    wrong: &mut Vec<String>,
) {
    let mut found: Vec<String> = outside
        .repeatable
        .iter()
        .map(|row| canonical(row))
        .collect();
    let expected: Vec<String> = expected.values().flatten().cloned().collect();
    let lost = surplus(&expected, &found);
    if !lost.is_empty() {
        wrong.push(format!("history, at least once: {lost:?} missing"));
    }
    if found.len() > expected.len() {
        world.sometimes("a sink that may repeat rows did");
    }
    let of_input = |row: &String| {
        let row: Value = serde_json::from_str(row).expect("a JSON row");
        let number = |name: &str| row[name].as_i64().expect("a number");
        (number("seq"), number("ts"), number("value"))
    };
    let Extent { splits, count, .. } = input.reports;
    let places = (0..splits).flat_map(|split| (0..count).map(move |offset| (split, offset)));
    let known: BTreeSet<(i64, i64, i64)> = places
        .filter_map(|(split, offset)| input.report(split, offset))
        .map(|report| (report.seq.cast_signed(), report.ts, report.value))
        .collect();
    found.retain(|row| !known.contains(&of_input(row)));
    if !found.is_empty() {
        wrong.push(format!("history, at least once: {found:?} made up"));
    }
}

/// Compares what each commit has put out, whatever the order of its rows.
fn compare<T: Ord + Clone + Debug>(
    what: &str,
    found: BTreeMap<u64, Vec<T>>,
    expected: BTreeMap<u64, Vec<T>>,
    wrong: &mut Vec<String>,
) {
    let sorted = |mut all: BTreeMap<u64, Vec<T>>| {
        all.values_mut().for_each(|rows| rows.sort());
        all.retain(|_, rows| !rows.is_empty());
        all
    };
    let (found, expected) = (sorted(found), sorted(expected));
    let none = Vec::new();
    for epoch in found.keys().chain(expected.keys()) {
        let (found, expected) = (
            found.get(epoch).unwrap_or(&none),
            expected.get(epoch).unwrap_or(&none),
        );
        if found != expected {
            let (more, less) = (surplus(found, expected), surplus(expected, found));
            wrong.push(format!(
                "{what} of epoch {epoch}: {more:?} too much, {less:?} missing"
            ));
            return;
        }
    }
}

/// What one sorted multiset has that another has not, the first few.
fn surplus<T: Ord + Clone>(these: &[T], those: &[T]) -> Vec<T> {
    let mut rest = those.to_vec();
    let mut surplus = Vec::new();
    for item in these {
        match rest.iter().position(|other| other == item) {
            Some(at) => drop(rest.swap_remove(at)),
            None => surplus.push(item.clone()),
        }
    }
    surplus.truncate(5);
    surplus
}

fn letters(
    outside: &Outside,
    expected: &BTreeMap<u64, Vec<Letter>>,
    refused: &BTreeMap<(String, String), String>,
    wrong: &mut Vec<String>,
) {
    let mut found: BTreeMap<u64, Vec<Letter>> = BTreeMap::new();
    let mut rejects = Vec::new();
    for rows in units(outside, "dead_letters") {
        for (epoch, row) in rows {
            let row: Value = serde_json::from_str(row).expect("a JSON row");
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let class = match text("class").as_str() {
                "schema" | "decode" => "decode".to_owned(),
                "sink-reject" => {
                    rejects.push((text("step"), text("id")));
                    continue;
                }
                class => class.to_owned(),
            };
            let offset = row["offset"].as_u64().unwrap_or(u64::MAX);
            let letter = (class, text("step"), text("split"), offset);
            found
                .entry(commit(outside, *epoch))
                .or_default()
                .push(letter);
        }
    }
    compare("dead letters", found, expected.clone(), wrong);
    rejects.sort();
    let expected: Vec<_> = refused.keys().cloned().collect();
    if rejects != expected {
        wrong.push(format!(
            "refused rows: {:?} too much, {:?} missing",
            surplus(&rejects, &expected),
            surplus(&expected, &rejects)
        ));
    }
    if refused.values().any(|row| !is_refused("history", row)) {
        wrong.push("a row was refused that is none of those".to_owned());
    }
}

/// The sinks that ask for it were given their units one after the other.
fn ordered(outside: &Outside, wrong: &mut Vec<String>) {
    for sink in ["results", "dead_letters"] {
        let order = outside.order.iter().filter(|(of, ..)| of == sink);
        let epochs: Vec<u64> = order.map(|(_, _, epoch)| *epoch).collect();
        if !epochs.is_sorted_by(|a, b| a < b) {
            wrong.push(format!("{sink} became visible out of order: {epochs:?}"));
        }
    }
}

/// No row was lost between two steps, and every count goes on over restarts.
fn conserved(outside: &Outside, wrong: &mut Vec<String>) {
    let mut before: BTreeMap<&str, Ledger> = BTreeMap::new();
    for manifest in outside.commits.values() {
        for (name, ledger) in &manifest.ledgers {
            if let Err(fault) = ledger.check(name) {
                wrong.push(format!("epoch {}: {fault}", manifest.epoch));
            }
            let known = before.insert(name, *ledger).unwrap_or_default();
            if known.input > ledger.input {
                wrong.push(format!("epoch {}: {name} goes back", manifest.epoch));
            }
        }
    }
}

/// What the log says is kept is all there and sound, and savepoints are kept for ever.
fn kept(outside: &Outside, wrong: &mut Vec<String>) {
    let store = outside.store.as_ref().expect("a store");
    let (listed, verified) = futures::executor::block_on(async {
        let listed = inspect::list(store).await.expect("the log reads");
        (listed, inspect::verify(store).await.expect("the log reads"))
    });
    if !verified.sound() {
        wrong.push(format!("what is kept is not sound: {verified:?}"));
    }
    for (epoch, manifest) in &outside.commits {
        let is_listed = listed.checkpoints.iter().any(|one| one.epoch.0 == *epoch);
        if manifest.kind == EpochKind::Savepoint && !is_listed {
            wrong.push(format!("the savepoint of epoch {epoch} is gone"));
        }
    }
}
