//! `${env:NAME}`, `${env:NAME:-default}`, `${file:PATH}` and `${secret:NAME}` inside strings.

use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::tree::{Node, Origin, Value};

/// Where substituted values come from.
pub trait Resolver {
    /// The environment variable `name`.
    fn env(&self, name: &str) -> Option<String>;
    /// The content of a file.
    ///
    /// # Errors
    /// What prevents it from being read.
    fn file(&self, path: &Path) -> Result<String, String>;
}

/// The real environment and file system.
#[derive(Clone, Copy, Debug)]
pub struct Environment;

impl Resolver for Environment {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        match crate::read_text(path) {
            Ok(text) if text.len() > crate::TEXT_BYTES_MAX => Err("it has more than 1 MiB".into()),
            read => read.map_err(|error| error.to_string()),
        }
    }
}

/// Substitutes in all of `node`; the values of `${secret:…}` are added to `secrets`.
pub(crate) fn substitute(
    node: &mut Node,
    folder: &Path,
    resolver: &dyn Resolver,
    secrets: &mut Vec<String>,
    found: &mut Vec<Diagnostic>,
) {
    match &mut node.value {
        Value::List(items) => {
            items
                .iter_mut()
                .for_each(|item| substitute(item, folder, resolver, secrets, found));
        }
        Value::Map(entries) => {
            for entry in entries {
                substitute(&mut entry.value, folder, resolver, secrets, found);
            }
        }
        Value::Scalar { text, .. } if text.contains("${") => {
            let before = secrets.len();
            match expand(text, folder, resolver, secrets) {
                Ok(expanded) => *text = expanded,
                Err(message) => found.push(Diagnostic::error(node.span, message)),
            }
            node.origin = match secrets.len() > before {
                true => Origin::Secret,
                false => Origin::Substituted,
            };
        }
        Value::Scalar { .. } => {}
    }
}

fn expand(
    text: &str,
    folder: &Path,
    resolver: &dyn Resolver,
    secrets: &mut Vec<String>,
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out += before;
        let (inside, behind) = after
            .split_once('}')
            .ok_or_else(|| "`${` has no `}` behind it".to_owned())?;
        let value = resolve(inside, folder, resolver)?;
        out += &value;
        if inside.starts_with("secret:") {
            secrets.push(value);
        }
        rest = behind;
    }
    Ok(out + rest)
}

fn resolve(inside: &str, folder: &Path, resolver: &dyn Resolver) -> Result<String, String> {
    let (kind, what) = inside
        .split_once(':')
        .ok_or_else(|| format!("`${{{inside}}}` names no kind; there are env, file and secret"))?;
    match kind {
        "env" | "secret" => {
            let (name, default) = match what.split_once(":-") {
                Some((name, default)) if kind == "env" => (name, Some(default)),
                _ => (what, None),
            };
            (resolver.env(name).or_else(|| default.map(str::to_owned)))
                .ok_or_else(|| format!("the environment variable {name} is not set"))
        }
        "file" => resolver
            .file(&folder.join(what))
            .map(|content| content.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| format!("the file {what} cannot be read: {error}")),
        other => Err(format!(
            "there is no `${{{other}:…}}`; there are env, file and secret"
        )),
    }
}
