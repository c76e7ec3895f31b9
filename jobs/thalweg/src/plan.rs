//! `thalweg plan`: what becomes of a job's state when its definition changes.

use std::sync::Arc;

use serde_json::json;
use thalweg_checkpoint::inspect::{list, show};
use thalweg_checkpoint::log::Standing;
use thalweg_checkpoint::{Access, Error, Store};
use thalweg_engine::{Fit, PartFit, PartKind};
use thalweg_stream::clock::SystemClock;
use thalweg_stream::{Clock, Epoch, Fault};

use crate::command::PlanArguments;
use crate::definition::{Planned, planned, store_location};
use crate::runtime::runtime;
use crate::{Failure, terminal};

pub(crate) fn plan(arguments: &PlanArguments) -> Result<(), Failure> {
    let clock = Arc::new(SystemClock::new()) as Arc<dyn Clock>;
    let planned = planned(&arguments.definition, &clock)?;
    let runtime = runtime(0)?;
    let location =
        (arguments.against.clone()).unwrap_or_else(|| store_location(&planned.definition));
    let store = Store::open(&location, Access::Existing).map_err(Fault::from)?;
    let found = runtime.block_on(show(&store, arguments.epoch.map(Epoch)));
    let manifest = found.map_err(Fault::from)?.manifest;
    let job = &planned.definition.job;
    if manifest.job != *job {
        let (job, found) = (job.clone(), manifest.job);
        let other = Error::OtherJob {
            location,
            job,
            found,
        };
        return Err(Fault::from(other).into());
    }
    // What a start without --from finds is no checkpoint to go on from, but the end.
    let standing = runtime
        .block_on(list(&store))
        .map_err(Fault::from)?
        .standing;
    let finished = arguments.epoch.is_none() && standing == Standing::Finished;
    let fit = Fit::of(&manifest, &planned.graph);
    let refused = fit.check(false);
    if arguments.definition.json {
        let parts: Vec<_> = (fit.parts.iter())
            .map(|part| {
                let mut shown = json!(part);
                shown["kind"] = json!(kind(&planned, part));
                shown
            })
            .collect();
        let runs = refused.is_ok();
        let result = json!({
            "job": job, "epoch": fit.epoch, "finished": finished, "runs": runs, "parts": parts,
        });
        return match runs {
            true => Ok(terminal::print(&format!("{result}\n"))?),
            false => Err(Failure::Result(result.to_string())),
        };
    }
    let rows: Vec<Vec<String>> = (fit.parts.iter())
        .map(|part| {
            vec![
                kind(&planned, part).to_owned(),
                part.name.clone(),
                part.fate.name().to_owned(),
                part.reason.clone(),
            ]
        })
        .collect();
    let table = terminal::table(&["PART", "NAME", "STATE", ""], &rows);
    let epoch = fit.epoch;
    let end = match finished {
        true => format!(
            "the job has finished: a start says so and does nothing, unless with --from {epoch} or \
             --from none\n"
        ),
        false => String::new(),
    };
    terminal::print(&format!(
        "{job}, checkpoint of epoch {epoch}\n{end}\n{table}"
    ))?;
    Ok(refused?)
}

/// What the definition calls a part.
fn kind(planned: &Planned, part: &PartFit) -> &'static str {
    let table =
        (planned.definition.tables.iter()).any(|table| table.source.name.value == part.name);
    match part.kind {
        PartKind::Source if table => "table",
        kind @ (PartKind::Source | PartKind::Step | PartKind::Sink) => kind.name(),
    }
}
