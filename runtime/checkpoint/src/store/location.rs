//! What a location says: a folder, or a name in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use object_store::memory::InMemory;

use crate::error::Error;

/// Where a store is.
pub(super) enum Place {
    /// In this process, by a name.
    Memory(String),
    /// On a file system.
    Folder(PathBuf),
}

/// Reads a location.
pub(super) fn place(location: &str) -> Result<Place, Error> {
    let bad = |problem: &str| Error::BadLocation {
        location: location.to_owned(),
        problem: problem.to_owned(),
    };
    let Some((scheme, rest)) = location.split_once("://") else {
        return match location {
            "" => Err(bad("it is empty")),
            path => Ok(Place::Folder(path.into())),
        };
    };
    match scheme {
        "memory" if rest.is_empty() => Err(bad("memory:// needs a name")),
        "memory" => Ok(Place::Memory(rest.to_owned())),
        "file" => url::Url::parse(location)
            .ok()
            .and_then(|url| url.to_file_path().ok())
            .map(Place::Folder)
            .ok_or_else(|| bad("a file URL has an absolute path: file:///path")),
        // The rest of such a URL may hold a secret.
        _ => Err(Error::NotSupported {
            scheme: scheme.to_owned(),
        }),
    }
}

/// The in-memory store of a name, the same for the whole process.
pub(super) fn memory(name: &str) -> Arc<InMemory> {
    static STORES: OnceLock<Mutex<BTreeMap<String, Arc<InMemory>>>> = OnceLock::new();
    let stores = STORES.get_or_init(Mutex::default);
    let mut stores = stores.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(stores.entry(name.to_owned()).or_default())
}
