//! Deleting what no kept checkpoint reaches.

use thalweg_checkpoint::{InUse, OwnedLog};
use thalweg_stream::Fault;
use tokio::sync::Mutex;

use super::OwnStage;

/// Deletes what no kept checkpoint reaches: in the store, and in the stages of sinks that have one
/// of their own. The log is held only while it is decided what to delete.
pub(super) async fn clean(
    log: &Mutex<Option<OwnedLog>>,
    stages: &[OwnStage],
    in_use: &InUse,
) -> Result<(), Fault> {
    let (planned, lineages) = {
        let mut log = log.lock().await;
        let Some(owned) = log.as_mut() else {
            return Ok(());
        };
        (owned.plan_cleaning(in_use).await?, owned.lineages())
    };
    planned.perform().await?;
    for (sink, stage) in stages {
        let mut listed = Vec::new();
        for lineage in &lineages {
            listed.extend(stage.list(&format!("{sink}/{lineage}/")).await?);
        }
        let litter = match log.lock().await.as_mut() {
            Some(owned) => owned.stage_litter(&listed).await?,
            None => return Ok(()),
        };
        for name in litter {
            stage.delete(&name).await?;
        }
    }
    Ok(())
}
