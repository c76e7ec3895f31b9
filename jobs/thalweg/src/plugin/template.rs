//! `thalweg plugin new`: a plugin that builds, with a copy of the SDK beside it.
//!
//! The copy makes the folder complete: it builds wherever it is put, with the SDK that fits the
//! program it was made with.

use std::path::{Path, PathBuf};

use crate::Failure;
use crate::terminal::print;

macro_rules! sdk {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../../../udf-sdk/", $path)))),*]
    };
}

/// The files of the SDK, as they are in the repository.
const SDK: [(&str, &str); 14] = sdk![
    "wit/types.wit",
    "wit/host.wit",
    "wit/scalar.wit",
    "wit/aggregate.wit",
    "wit/operator.wit",
    "wit/worlds.wit",
    "macro/src/lib.rs",
    "rust/src/lib.rs",
    "rust/src/argument.rs",
    "rust/src/column.rs",
    "rust/src/function.rs",
    "rust/src/guest.rs",
    "rust/src/output.rs",
    "rust/src/value.rs",
];

const MANIFEST: &str = include_str!("../../../../udf-sdk/template/rust/Cargo.toml");
const LIB: &str = include_str!("../../../../udf-sdk/template/rust/src/lib.rs");

/// The manifests of the SDK outside of the workspace that its own ones inherit from.
const SDK_MANIFEST: &str = r#"[package]
name = "thalweg-udf"
version = "VERSION"
edition = "2024"
publish = false

[dependencies]
thalweg-udf-macro = { path = "../macro" }

[target.'cfg(target_arch = "wasm32")'.dependencies]
wit-bindgen = { version = "0.61", default-features = false, features = ["macros", "realloc"] }
"#;
const MACRO_MANIFEST: &str = r#"[package]
name = "thalweg-udf-macro"
version = "VERSION"
edition = "2024"
publish = false

[lib]
proc-macro = true

[dependencies]
proc-macro2 = "1"
quote = "1"
syn = { version = "2", features = ["full"] }
"#;

pub(super) fn new(name: &str, dir: Option<&Path>, json: bool) -> Result<(), Failure> {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_lowercase());
    let rest = letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c));
    if !first || !rest || name.len() > 63 {
        return Err(Failure::User(format!(
            "`{name}` is no name of a plugin: names match [a-z][a-z0-9_-]{{0,62}}"
        )));
    }
    let folder = dir.map_or_else(|| PathBuf::from(name), Path::to_owned);
    if (std::fs::read_dir(&folder)).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::User(format!("{} is not empty", folder.display())));
    }
    let crate_name = name.replace('-', "_");
    let version = env!("CARGO_PKG_VERSION");
    let mut files = vec![
        (
            "Cargo.toml".to_owned(),
            MANIFEST.replace("NAME", &crate_name),
        ),
        ("src/lib.rs".to_owned(), LIB.to_owned()),
        (
            ".gitignore".to_owned(),
            "/target\n*.wasm\n*.wasm.sha256\n".to_owned(),
        ),
        (
            "thalweg-sdk/rust/Cargo.toml".to_owned(),
            SDK_MANIFEST.replace("VERSION", version),
        ),
        (
            "thalweg-sdk/macro/Cargo.toml".to_owned(),
            MACRO_MANIFEST.replace("VERSION", version),
        ),
    ];
    files.extend(SDK.map(|(path, text)| (format!("thalweg-sdk/{path}"), text.to_owned())));
    for (path, text) in files {
        let path = folder.join(path);
        let write = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            std::fs::write(&path, text)
        };
        write().map_err(|error: std::io::Error| {
            Failure::User(format!("{}: {error}", path.display()))
        })?;
    }
    let shown = folder.display();
    Ok(print(&match json {
        true => format!(
            "{}\n",
            serde_json::json!({ "path": folder, "name": crate_name })
        ),
        false => format!(
            "{shown} is a plugin. Its functions are in {shown}/src/lib.rs.\n\n\
             cargo test --manifest-path {shown}/Cargo.toml\n\
             thalweg plugin build {shown}\n"
        ),
    })?)
}
