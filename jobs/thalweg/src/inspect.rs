//! `thalweg checkpoint list | show | verify`.

use thalweg_checkpoint::inspect::{list, show, verify};
use thalweg_checkpoint::{Access, Store};
use thalweg_stream::{Epoch, Fault};

use crate::Failure;
use crate::command::{CheckpointAction, CheckpointArguments};

#[allow(clippy::print_stdout, reason = "the result of a command")]
pub(crate) fn checkpoint(arguments: &CheckpointArguments) -> Result<(), Failure> {
    let store = Store::open(&arguments.store, Access::Existing).map_err(Fault::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::bug(format!("no runtime: {error}")))?;
    let epoch = arguments.epoch.map(Epoch);
    let bug = |error: serde_json::Error| Fault::bug(format!("cannot be shown: {error}"));
    let (value, sound) = runtime.block_on(async {
        Ok::<_, Fault>(match arguments.action {
            CheckpointAction::List => (
                serde_json::to_value(list(&store).await?).map_err(bug)?,
                true,
            ),
            CheckpointAction::Show => (
                serde_json::to_value(show(&store, epoch).await?).map_err(bug)?,
                true,
            ),
            CheckpointAction::Verify => {
                let verification = verify(&store).await?;
                let sound = verification.sound();
                (serde_json::to_value(verification).map_err(bug)?, sound)
            }
        })
    })?;
    let text = match arguments.json {
        true => value.to_string(),
        false => serde_json::to_string_pretty(&value).map_err(bug)?,
    };
    println!("{text}");
    match sound {
        true => Ok(()),
        false => Err(Fault::corrupt(format!("{} holds damaged objects", arguments.store)).into()),
    }
}
