//! The judge: what became visible, against the model at the cuts that the manifests record.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde_json::Value;
use thalweg_checkpoint::name::COMPACTION;
use thalweg_stream::Ledger;

use crate::model::{Letter, answer, canonical};
use crate::outside::{Outside, UnitName, is_refused};
use crate::record::Input;
use crate::world::World;

/// Everything that is wrong.
pub(crate) fn judge(input: &Input, outside: &Outside, world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let model = answer(*input, &outside.commits);
    // Every record was read.
    let last = outside.commits.values().next_back();
    let offsets = |source: &str| -> Vec<Option<u64>> {
        let record = last.and_then(|manifest| manifest.sources.get(source));
        record.map_or_else(Vec::new, |r| r.splits.iter().map(|s| s.offset).collect())
    };
    for (source, (splits, count)) in [("reports", input.reports), ("versions", input.versions)] {
        if offsets(source) != vec![Some(count); splits as usize] {
            wrong.push(format!("{source} ends at {:?}", offsets(source)));
        }
    }
    let mut refused = BTreeMap::new();
    for (sink, expected) in [("history", &model.history), ("results", &model.results)] {
        let mut visible = BTreeMap::new();
        for ((_, _, epoch), rows) in units(outside, sink) {
            visible.insert(*epoch, rows.iter().map(|row| canonical(row)).collect());
        }
        // Rows that the service has refused are dead letters instead.
        for ((of, id), row) in &outside.refused {
            let epoch = id.split('-').next().and_then(|epoch| epoch.parse().ok());
            let epoch: u64 = epoch.expect("an id begins with an epoch");
            let unit = outside.commits.range(epoch..).next().map(|(unit, _)| *unit);
            if let (true, Some(unit)) = (of == sink, unit) {
                let rows: &mut Vec<String> = visible.entry(unit).or_default();
                rows.push(canonical(row));
                refused.insert((of.clone(), id.clone()), row.clone());
            }
        }
        compare(sink, visible, expected.clone(), &mut wrong);
    }
    letters(outside, &model.letters, &refused, &mut wrong);
    ordered(outside, &mut wrong);
    conserved(outside, &mut wrong);
    if model.duplicates > 0 {
        world.sometimes("rows were dropped as duplicates");
    }
    if model.held > 0 {
        world.sometimes("a checkpoint held rows that waited for the table");
    }
    if !refused.is_empty() {
        world.sometimes("a service refused rows");
    }
    let late = model.letters.values().flatten();
    if late.into_iter().any(|letter| letter.0 == "late") {
        world.sometimes("rows came too late");
    }
    for manifest in outside.commits.values() {
        if manifest.cuts.iter().all(|cut| cut.offsets.is_empty()) {
            world.sometimes("a checkpoint without new input");
        }
        if manifest.kind == thalweg_stream::EpochKind::Savepoint {
            world.sometimes("a savepoint");
        }
        let mut parts = manifest.state.parts.iter();
        if parts.any(|part| part.id.worker == COMPACTION) {
            world.sometimes("state was compacted");
        }
    }
    wrong
}

fn units<'a>(
    outside: &'a Outside,
    sink: &'a str,
) -> impl Iterator<Item = (&'a UnitName, &'a Vec<String>)> {
    let units = outside.units.iter();
    units.filter(move |((of, ..), _)| of == sink)
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
    for ((_, _, epoch), rows) in units(outside, "dead_letters") {
        for row in rows {
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
            found.entry(*epoch).or_default().push(letter);
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
