//! Plugins: components whose functions expressions call by name.

use crate::diagnostic::{Diagnostic, Spanned};
use crate::fields::Fields;
use crate::model::Plugin;
use crate::tree::Node;

/// Least and most memory of an instance (bytes); 32-bit memories have no more.
const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=4 << 30;
/// Shortest and longest deadline (milliseconds).
const DEADLINE_MS: std::ops::RangeInclusive<u64> = 10..=60_000;

pub(crate) fn plugin(
    name: &Spanned<String>,
    node: &Node,
    found: &mut Vec<Diagnostic>,
) -> Option<Plugin> {
    let mut fields = Fields::of(node, format!("plugin `{}`", name.value), found)?;
    if name.value.contains('-') {
        let message = format!(
            "plugin `{}` is called by its name in expressions, where `-` is minus; use `_`",
            name.value
        );
        found.push(Diagnostic::error(name.span, message));
    }
    let path = fields.required("path", found);
    // The planner tells what the file has if there is none: it reads the file.
    let sha256 = fields.text("sha256", found);
    if let Some(sha256) = &sha256
        && (sha256.value.len() != 64 || !sha256.value.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        let message = format!("`sha256` is 64 hexadecimal digits, not `{}`", sha256.value);
        found.push(Diagnostic::error(sha256.span, message));
    }
    let (mut memory_bytes, mut deadline_ms) = (None, None);
    if let Some(node) = fields.node("limits")
        && let Some(mut limits) = Fields::of(node, "`limits`", found)
    {
        memory_bytes = limits.size("memory", found);
        deadline_ms = limits.duration("deadline", found);
        if memory_bytes.is_some_and(|bytes| !MEMORY_BYTES.contains(&bytes)) {
            found.push(Diagnostic::error(
                node.span,
                "`memory` is between 1MiB and 4GiB",
            ));
        }
        if deadline_ms.is_some_and(|ms| !DEADLINE_MS.contains(&ms)) {
            found.push(Diagnostic::error(
                node.span,
                "`deadline` is between 10ms and 60s",
            ));
        }
        limits.finish(found);
    }
    fields.later(&["config", "grant"], found);
    fields.finish(found);
    Some(Plugin {
        name: name.clone(),
        path,
        sha256,
        memory_bytes,
        deadline_ms,
    })
}
