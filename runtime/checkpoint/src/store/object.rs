//! Objects by way of `object_store`: its names, its listings and its errors as ours.

use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use super::{Effect, EffectKind, Listed, Payload};
use crate::error::Error;
use crate::name::ObjectName;

/// Does what an effect asks for.
pub(super) async fn write_object(
    objects: &dyn ObjectStore,
    effect: &Effect,
    payload: Payload,
) -> Result<(), Error> {
    let mode = match effect.kind {
        EffectKind::Put => PutMode::Overwrite,
        EffectKind::PutIfAbsent => PutMode::Create,
        EffectKind::Delete => return delete_object(objects, &effect.name).await,
    };
    let content: PutPayload = payload.0.into_iter().collect();
    let path = path(&effect.name)?;
    match objects.put_opts(&path, content, mode.into()).await {
        Ok(_) => Ok(()),
        Err(object_store::Error::AlreadyExists { .. }) => Err(Error::AlreadyExists {
            name: effect.name.to_string(),
        }),
        Err(error) => Err(read_error("put", effect.name.as_str(), &error)),
    }
}

/// Deletes an object, or finds it gone.
async fn delete_object(objects: &dyn ObjectStore, name: &ObjectName) -> Result<(), Error> {
    match objects.delete(&path(name)?).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(read_error("delete", name.as_str(), &error)),
    }
}

/// The name as a path of the store. Names are ours, but for the part that a sink contributes.
pub(super) fn path(name: &ObjectName) -> Result<ObjectPath, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.=/".contains(c);
    (name.as_str().chars().all(plain))
        .then(|| ObjectPath::parse(name.as_str()).ok())
        .flatten()
        .ok_or_else(|| Error::Bug(format!("{:?} cannot name an object", name.as_str())))
}

/// What a listing has found, by name.
pub(super) fn sorted(
    prefix: &str,
    found: object_store::Result<Vec<object_store::ObjectMeta>>,
) -> Result<Vec<Listed>, Error> {
    let found = found.map_err(|error| read_error("list", prefix, &error))?;
    let mut listed: Vec<_> = (found.into_iter())
        .map(|meta| Listed {
            name: ObjectName::listed(meta.location.to_string()),
            bytes: meta.size,
        })
        .collect();
    listed.sort_unstable();
    Ok(listed)
}

/// An error of `object_store`, classified.
pub(super) fn read_error(action: &'static str, name: &str, error: &object_store::Error) -> Error {
    use object_store::Error as Found;
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is not exhaustive; what is not known may pass"
    )]
    let passing = match error {
        Found::NotFound { .. } => {
            return Error::Missing {
                name: name.to_owned(),
            };
        }
        Found::InvalidPath { .. }
        | Found::NotSupported { .. }
        | Found::NotImplemented { .. }
        | Found::PermissionDenied { .. }
        | Found::Unauthenticated { .. } => false,
        _ => true,
    };
    Error::Storage {
        action,
        name: name.to_owned(),
        problem: error.to_string().to_lowercase(),
        passing,
    }
}
