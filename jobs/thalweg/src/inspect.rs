//! `thalweg checkpoint list | show | verify | export`.

use std::fmt::Write as _;

use serde::Serialize;
use thalweg_checkpoint::inspect::{
    CheckpointDetail, CheckpointSummary, Content, JobSummary, Verification, list, show, verify,
};
use thalweg_checkpoint::log::Standing;
use thalweg_checkpoint::{Access, Store};
use thalweg_stream::{Epoch, Fault};

use crate::command::{CheckpointAction, CheckpointArguments};
use crate::runtime::runtime;
use crate::terminal::{bytes, table, time};
use crate::{Failure, terminal};

pub(crate) fn checkpoint(arguments: &CheckpointArguments) -> Result<(), Failure> {
    let runtime = runtime(0)?;
    let open = |location: &str| Store::open(location, Access::Existing).map_err(Fault::from);
    match &arguments.action {
        CheckpointAction::List(place) => {
            let store = open(&place.store)?;
            let found = runtime.block_on(list(&store)).map_err(Fault::from)?;
            tell(&found, place.json, listed)
        }
        CheckpointAction::Show(which) => {
            let store = open(&which.store.store)?;
            let epoch = which.epoch.map(Epoch);
            let found = runtime.block_on(show(&store, epoch)).map_err(Fault::from)?;
            tell(&found, which.store.json, shown)
        }
        CheckpointAction::Export(what) => {
            let store = open(&what.store)?;
            runtime.block_on(crate::export::export(&store, what))
        }
        CheckpointAction::Verify(place) => {
            let store = open(&place.store)?;
            let found = runtime.block_on(verify(&store)).map_err(Fault::from)?;
            tell(&found, place.json, verified)?;
            match found.sound() {
                true => Ok(()),
                false => {
                    let damaged = format!("{} holds damaged objects", place.store);
                    Err(Fault::corrupt(damaged).into())
                }
            }
        }
    }
}

fn tell<T: Serialize>(found: &T, json: bool, text: impl Fn(&T) -> String) -> Result<(), Failure> {
    let text = match json {
        false => text(found),
        true => {
            let unfit = |error| Fault::bug(format!("cannot be shown: {error}"));
            serde_json::to_string(found).map_err(unfit)? + "\n"
        }
    };
    Ok(terminal::print(&text)?)
}

fn listed(found: &JobSummary) -> String {
    let standing = match found.standing {
        Standing::New => "not yet started",
        Standing::Claimed => "running, or ended without a word",
        Standing::Stopped => "stopped",
        Standing::Finished => "finished",
    };
    let mut out = format!("{}: {standing}; store {}\n", found.job, found.location);
    if let (Standing::Claimed, Some(owner)) = (found.standing, &found.owner) {
        let (host, pid) = (&owner.host, owner.pid);
        // Writing to a string cannot fail.
        writeln!(
            out,
            "last owner: process {pid} on {host}, generation {}",
            owner.generation
        )
        .ok();
    }
    if found.checkpoints.is_empty() {
        return out + "no checkpoint yet\n";
    }
    let rows: Vec<Vec<String>> = found.checkpoints.iter().map(row).collect();
    out.push('\n');
    out.push_str(&table(
        &[
            "EPOCH",
            "COMMITTED",
            "GENERATION",
            "STATE",
            "PARTS",
            "UNPUBLISHED",
            "",
        ],
        &rows,
    ));
    out
}

fn row(checkpoint: &CheckpointSummary) -> Vec<String> {
    let mut notes = Vec::new();
    if checkpoint.current {
        notes.push("current".to_owned());
    }
    if checkpoint.savepoint {
        notes.push("savepoint".to_owned());
    }
    let [state, parts, unpublished] = match &checkpoint.content {
        Content::Whole {
            parts,
            state_bytes,
            unpublished,
        } => [
            bytes(*state_bytes),
            parts.to_string(),
            unpublished.to_string(),
        ],
        Content::Damaged { damage } => {
            notes.push(format!("damaged: {damage}"));
            ["-", "-", "-"].map(str::to_owned)
        }
    };
    vec![
        checkpoint.epoch.to_string(),
        time(checkpoint.at_ms),
        checkpoint.generation.to_string(),
        state,
        parts,
        unpublished,
        notes.join(", "),
    ]
}

fn shown(found: &CheckpointDetail) -> String {
    let (summary, manifest) = (&found.summary, &found.manifest);
    let mut out = format!(
        "{}: {} of epoch {}, committed {}\nlineage {}, generation {}, {} workers, definition {}\n",
        manifest.job,
        if summary.savepoint {
            "savepoint"
        } else {
            "checkpoint"
        },
        summary.epoch,
        time(summary.at_ms),
        summary.lineage,
        summary.generation,
        manifest.workers,
        manifest.definition.version,
    );
    let splits = manifest.sources.iter().flat_map(|(source, record)| {
        record.splits.iter().map(move |split| {
            let at = |time_ms: Option<i64>| time_ms.map_or_else(|| "-".to_owned(), time);
            vec![
                source.clone(),
                split.spec.name.to_string(),
                split
                    .offset
                    .map_or_else(|| "-".to_owned(), |o| o.to_string()),
                at(split.newest_event_time),
                if split.finished { "finished" } else { "" }.to_owned(),
            ]
        })
    });
    let splits: Vec<Vec<String>> = splits.collect();
    part(
        &mut out,
        &["SOURCE", "SPLIT", "OFFSET", "NEWEST", ""],
        &splits,
    );
    let states: Vec<Vec<String>> = (found.states.iter())
        .map(|(step, state)| {
            let [base, delta] = [state.base_bytes, state.delta_bytes].map(bytes);
            vec![step.clone(), state.parts.to_string(), base, delta]
        })
        .collect();
    part(&mut out, &["STATE OF", "PARTS", "BASE", "DELTAS"], &states);
    let ledgers: Vec<Vec<String>> = (manifest.ledgers.iter())
        .map(|(name, ledger)| {
            let counts = [
                ledger.input,
                ledger.passed,
                ledger.filtered,
                ledger.merged,
                ledger.duplicate,
                ledger.late,
                ledger.dead,
                ledger.held,
            ];
            let counts = counts.iter().map(u64::to_string);
            std::iter::once(name.clone()).chain(counts).collect()
        })
        .collect();
    let head = [
        "ROWS OF",
        "IN",
        "PASSED",
        "FILTERED",
        "MERGED",
        "DUPLICATE",
        "LATE",
        "DEAD",
        "HELD",
    ];
    part(&mut out, &head, &ledgers);
    let sinks: Vec<Vec<String>> = (manifest.sinks.iter())
        .map(|(name, sink)| {
            let published = sink
                .published
                .map_or_else(|| "-".to_owned(), |e| e.to_string());
            vec![name.clone(), published, sink.units.len().to_string()]
        })
        .collect();
    part(
        &mut out,
        &["SINK", "PUBLISHED UP TO", "UNPUBLISHED"],
        &sinks,
    );
    out
}

fn part(out: &mut String, head: &[&str], rows: &[Vec<String>]) {
    if !rows.is_empty() {
        out.push('\n');
        out.push_str(&table(head, rows));
    }
}

fn verified(found: &Verification) -> String {
    let mut out = format!(
        "{} checkpoints, {} state objects and {} staged objects ({}) read: {}\n",
        found.checkpoints,
        found.parts,
        found.staged,
        bytes(found.bytes),
        match found.damage.len() {
            0 => "all sound".to_owned(),
            1 => "one is damaged".to_owned(),
            n => format!("{n} are damaged"),
        }
    );
    for damage in &found.damage {
        let epochs: Vec<String> = damage.epochs.iter().map(ToString::to_string).collect();
        let epochs = epochs.join(", ");
        // Writing to a string cannot fail.
        writeln!(
            out,
            "  {} (of epoch {epochs}): {}",
            damage.object, damage.problem
        )
        .ok();
    }
    out
}
