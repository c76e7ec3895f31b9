//! `thalweg checkpoint export`: the state of a checkpoint as rows.
//!
//! It is read a key group at a time, so that state of any size can be exported.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::ipc::writer::FileWriter;
use thalweg_checkpoint::inspect::{explain, show};
use thalweg_checkpoint::{Manifest, Restorer, Store};
use thalweg_formats::{JsonLines, WriteOptions};
use thalweg_planner::state_rows;
use thalweg_stream::key::KEY_GROUPS;
use thalweg_stream::{Class, Epoch, Fault};

use crate::command::{ExportArguments, ExportFormat};
use crate::{Failure, terminal};

/// Writes the rows of the steps that are asked for.
pub(crate) async fn export(store: &Store, arguments: &ExportArguments) -> Result<(), Failure> {
    let detail = show(store, arguments.epoch.map(Epoch)).await;
    let detail = detail.map_err(Fault::from)?;
    match write(store, &detail.manifest, arguments).await {
        Err(Failure::Fault(damage)) if damage.class == Class::Corrupt => Err(Failure::Fault(
            explain(store, &detail.summary, damage).await,
        )),
        written => written,
    }
}

async fn write(
    store: &Store,
    manifest: &Manifest,
    arguments: &ExportArguments,
) -> Result<(), Failure> {
    let with_state: BTreeMap<&str, &str> = (manifest.steps.iter())
        .filter_map(|(id, record)| Some((id.as_str(), record.shape.as_deref()?)))
        .collect();
    let wanted: BTreeMap<&str, &str> = match &arguments.step {
        None => with_state,
        Some(id) => match with_state.get_key_value(id.as_str()) {
            Some((id, shape)) => [(*id, *shape)].into(),
            None => {
                let ids: Vec<&str> = with_state.into_keys().collect();
                return Err(Failure::User(format!(
                    "no step `{id}` has state in the checkpoint of epoch {}; there are {}",
                    manifest.epoch,
                    if ids.is_empty() {
                        "none".to_owned()
                    } else {
                        ids.join(", ")
                    }
                )));
            }
        },
    };
    let mut out = match (arguments.format, &arguments.out) {
        (ExportFormat::Json, None) => Out::Lines,
        (ExportFormat::Arrow, Some(folder)) => Out::Files(Files::new(folder)?),
        (ExportFormat::Json, Some(_)) => {
            return Err(Failure::User("--out is for --format arrow".to_owned()));
        }
        (ExportFormat::Arrow, None) => {
            return Err(Failure::User(
                "--format arrow writes files: name their folder with --out".to_owned(),
            ));
        }
    };
    let restorer = Restorer::open(store, &manifest.state).await;
    let restorer = restorer.map_err(Fault::from)?;
    for (id, shape) in wanted {
        for group in 0..KEY_GROUPS {
            let mut sections = Vec::new();
            let mut reading = restorer
                .sections(id, group..group + 1)
                .map_err(Fault::from)?;
            while let Some(more) = reading.next().await.map_err(Fault::from)? {
                sections.extend(more);
            }
            // The first tells the columns, also of state that is empty.
            if sections.is_empty() && group > 0 {
                continue;
            }
            let rows = state_rows(shape, &sections);
            let rows = rows.map_err(|fault| fault.within(format_args!("step \"{id}\"")))?;
            for rows in rows {
                out.write(id, &rows)?;
            }
        }
    }
    out.finish()
}

/// Where rows go.
enum Out<'a> {
    /// Standard output, as JSON lines.
    Lines,
    /// Arrow IPC files.
    Files(Files<'a>),
}

impl Out<'_> {
    fn write(&mut self, step: &str, rows: &thalweg_state::StateRows) -> Result<(), Failure> {
        match self {
            Self::Lines => {
                let writer = JsonLines::new(&rows.schema, WriteOptions::default());
                let writer = writer.map_err(|error| Fault::bug(error.to_string()))?;
                let mut lines = Vec::new();
                writer.write(&rows.batch, &mut lines)?;
                let lines = String::from_utf8_lossy(&lines);
                let mut text = String::with_capacity(lines.len());
                for line in lines.lines() {
                    let columns = line.strip_prefix('{').unwrap_or(line);
                    let (step, part) = (serde_json::json!(step), rows.part);
                    text += &format!("{{\"step\":{step},\"part\":\"{part}\",{columns}\n");
                }
                Ok(terminal::print(&text)?)
            }
            Self::Files(files) => files.write(step, rows),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Lines => Ok(()),
            Self::Files(files) => files.finish(),
        }
    }
}

/// A file for each part of the state of each step.
struct Files<'a> {
    folder: &'a Path,
    writers: BTreeMap<String, FileWriter<File>>,
}

impl<'a> Files<'a> {
    fn new(folder: &'a Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
        Ok(Self {
            folder,
            writers: BTreeMap::new(),
        })
    }

    fn write(&mut self, step: &str, rows: &thalweg_state::StateRows) -> Result<(), Failure> {
        let name = format!("{step}.{}.arrow", rows.part);
        let path = self.folder.join(&name);
        if !self.writers.contains_key(&name) {
            let file = File::create(&path).map_err(|error| unwritable(&path, &error))?;
            let writer = FileWriter::try_new(file, &rows.batch.schema());
            let writer = writer.map_err(|error| unwritable(&path, &error))?;
            self.writers.insert(name.clone(), writer);
        }
        if let Some(writer) = self.writers.get_mut(&name) {
            let written = writer.write(&rows.batch);
            written.map_err(|error| unwritable(&path, &error))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        for (name, writer) in &mut self.writers {
            let path = self.folder.join(name);
            let ended = writer.finish();
            ended.map_err(|error| unwritable(&path, &error))?;
            terminal::say(&path.display().to_string());
        }
        Ok(())
    }
}

fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Fault(Fault::unavailable(format!("{}: {error}", path.display())))
}
