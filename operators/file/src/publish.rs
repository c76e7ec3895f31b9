//! Publishing staged files: a rename each, decided from what is there; and what is not staged: a file
//! each.

use std::fs::File;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use thalweg_stream::epoch::Generation;
use thalweg_stream::sink::{PublishUnit, Published, Released, StageStore, StagedObject};
use thalweg_stream::{Fault, Publisher};

use crate::durable::{self, Found};
use crate::error::{Error, blocking};
use crate::stage::{self, FileStageStore};

/// Publishes into one folder.
#[derive(Debug)]
pub(crate) struct FilePublisher {
    folder: PathBuf,
    stage: FileStageStore,
    extension: &'static str,
}

impl FilePublisher {
    /// A publisher into `folder`, which is created, and into which it must be possible to write.
    pub(crate) async fn connect(
        folder: PathBuf,
        stage: FileStageStore,
        extension: &'static str,
    ) -> Result<Self, Fault> {
        let root = stage.root().to_owned();
        blocking(move || create_writable(&root)).await?;
        Ok(Self {
            folder,
            stage,
            extension,
        })
    }
}

#[async_trait]
impl Publisher for FilePublisher {
    /// The store given is the sink's own ([`FileStageStore`]); objects are renamed out of it.
    async fn publish(
        &self,
        unit: &Released<PublishUnit>,
        _stage: &dyn StageStore,
    ) -> Result<Published, Fault> {
        let (folder, stage) = (self.folder.clone(), self.stage.clone());
        let (unit, extension) = (unit.get().clone(), self.extension);
        blocking(move || publish(&folder, &stage, unit, extension)).await?;
        Ok(Published::default())
    }
}

/// Creates a folder into which it must be possible to write.
fn create_writable(folder: &Path) -> Result<(), Error> {
    durable::create_folder(folder)?;
    let probe = folder.join(".probe");
    // Other jobs may be trying the same at the same time.
    (File::create(&probe).and_then(|file| file.sync_all())).map_err(Error::io("write", &probe))?;
    durable::remove(&probe)
}

/// Writes into one folder what is given to it, at least once.
#[derive(Debug)]
pub(crate) struct AtOncePublisher {
    folder: PathBuf,
    generation: Generation,
    extension: &'static str,
}

impl AtOncePublisher {
    /// A publisher of the start `generation` into `folder`, which is created, and into which it must
    /// be possible to write.
    pub(crate) async fn connect(
        folder: PathBuf,
        generation: Generation,
        extension: &'static str,
    ) -> Result<Self, Fault> {
        let root = folder.clone();
        blocking(move || create_writable(&root)).await?;
        Ok(Self {
            folder,
            generation,
            extension,
        })
    }
}

#[async_trait]
impl Publisher for AtOncePublisher {
    /// A file for every object, durable when it returns. Nothing else has its name: epoch, worker
    /// and sequence are an object's own within a generation, so only a repetition writes it again.
    async fn publish(
        &self,
        unit: &Released<PublishUnit>,
        stage: &dyn StageStore,
    ) -> Result<Published, Fault> {
        let unit = unit.get();
        for object in &unit.objects {
            let name = format!(
                "part-{}-{:010}-{}-{}-g{}.{}",
                unit.lineage,
                object.epoch.0,
                object.worker,
                object.sequence,
                self.generation,
                self.extension
            );
            let (path, lines) = (self.folder.join(name), stage.get(object).await?);
            blocking(move || durable::write(&path, &lines)).await?;
        }
        Ok(Published::default())
    }
}

/// The name under which the `n`th file of a unit is published.
fn final_name(unit: &PublishUnit, n: usize, extension: &str) -> String {
    format!("part-{}-{:010}-{n}.{extension}", unit.lineage, unit.epoch.0)
}

/// Renames every object of a unit into place.
fn publish(
    folder: &Path,
    stage: &FileStageStore,
    mut unit: PublishUnit,
    extension: &str,
) -> Result<(), Error> {
    (unit.objects).sort_by_key(|object| (object.epoch, object.worker, object.sequence));
    for (n, object) in unit.objects.iter().enumerate() {
        let to = folder.join(final_name(&unit, n, extension));
        publish_one(stage, object, &to)?;
    }
    // Also where nothing was left to do: whoever renamed may have died before its fsync.
    durable::sync_folder(folder)
}

fn publish_one(stage: &FileStageStore, object: &StagedObject, to: &Path) -> Result<(), Error> {
    let damaged = |what| Error::Stage {
        name: object.name.clone(),
        what,
    };
    let published = durable::check(to, object.bytes, object.crc32)?;
    match decide(stage::check(stage, object)?, published) {
        Action::Rename => {
            if durable::rename(&stage.path(&object.name)?, to)? {
                return Ok(());
            }
            // Gone since we looked: another process publishes the same unit. Then it is there.
            match durable::check(to, object.bytes, object.crc32)? {
                Found::Intact => Ok(()),
                Found::Different => Err(Error::Occupied(to.to_owned())),
                Found::Missing => Err(damaged("is missing, and so is the published file")),
            }
        }
        Action::Done => Ok(()),
        Action::Tidy => durable::remove(&stage.path(&object.name)?),
        Action::Refuse => Err(Error::Occupied(to.to_owned())),
        Action::Lost => Err(damaged("is missing, and so is the published file")),
        Action::Damaged => Err(damaged("is not what the manifest says")),
    }
}

/// What to do about one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Publish it.
    Rename,
    /// It is published.
    Done,
    /// It is published; what is staged is left over.
    Tidy,
    /// Another file has its name.
    Refuse,
    /// It is nowhere.
    Lost,
    /// What is staged is not what was committed.
    Damaged,
}

/// The rule of recovery: a published file is never touched, and nothing but what was committed is
/// published.
fn decide(staged: Found, published: Found) -> Action {
    match (published, staged) {
        (Found::Different, _) => Action::Refuse,
        (Found::Intact, Found::Missing) => Action::Done,
        (Found::Intact, Found::Intact | Found::Different) => Action::Tidy,
        (Found::Missing, Found::Intact) => Action::Rename,
        (Found::Missing, Found::Different) => Action::Damaged,
        (Found::Missing, Found::Missing) => Action::Lost,
    }
}
