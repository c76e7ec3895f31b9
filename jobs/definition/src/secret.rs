//! Credentials: what must never be shown, and how it is kept out of what is shown.
//!
//! A value is secret if it came through `${secret:…}`, or if it stands in a field that holds a
//! credential. [`Secrets`] replaces such values in whatever text leaves the process; [`mask`]
//! covers the places in a definition where they stand, so that a line can be shown with an error.

use std::borrow::Cow;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Span};
use crate::tree::{Node, Origin, Value};

/// What stands in the place of a secret.
const COVER: &str = "******";
/// Values shorter than this (bytes) are not searched for in texts: every text is full of them.
const LENGTH_MIN: usize = 4;
/// Names of fields that hold credentials, whatever connector they belong to.
const CREDENTIALS: [&str; 16] = [
    "key",
    "token",
    "password",
    "secret",
    "client_secret",
    "connection_string",
    "sas",
    "sas_token",
    "account_key",
    "access_key",
    "secret_access_key",
    "shared_access_key",
    "private_key",
    "passphrase",
    "api_key",
    "credential",
];
/// Parts in which names are the user's own, so that `key` or `token` may be a column.
const OWN_NAMES: [&str; 9] = [
    "schema",
    "metadata",
    "set",
    "select",
    "rename",
    "route",
    "aggregate",
    "on",
    "take",
];

/// The secret values of a job, to be kept out of every text that is shown.
#[derive(Clone, Default)]
pub struct Secrets(Arc<[String]>);

impl Secrets {
    pub(crate) fn new(values: &[String]) -> Self {
        let mut forms: Vec<String> = values.iter().flat_map(|value| forms(value)).collect();
        // The longest first: one may be part of another.
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Self(forms.into())
    }

    /// The text without them.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for value in self.0.iter() {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), COVER));
            }
        }
        text
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({} hidden)", self.0.len())
    }
}

/// How a value may stand in a text: as it is, quoted and escaped, in a URL, line by line.
fn forms(value: &str) -> Vec<String> {
    let escaped = format!("{value:?}");
    let json = serde_json::Value::from(value).to_string();
    let inside = |quoted: &str| quoted[1..quoted.len() - 1].to_owned();
    let percent = value
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    let mut forms = vec![
        value.trim().to_owned(),
        inside(&escaped),
        inside(&json),
        percent,
    ];
    forms.extend(value.lines().map(|line| line.trim().to_owned()));
    forms.retain(|form| form.len() >= LENGTH_MIN);
    forms
}

/// The values in `tree` that are secret: marked by the walk, or substituted as such.
pub(crate) fn values(tree: &Node) -> Vec<String> {
    let mut values = Vec::new();
    visit(tree, &mut |node| {
        if let (Value::Scalar { text, .. }, true) = (&node.value, is_secret(node)) {
            values.push(text.clone());
        }
    });
    values
}

fn is_secret(node: &Node) -> bool {
    node.secret.get() || node.origin == Origin::Secret
}

fn visit(node: &Node, see: &mut impl FnMut(&Node)) {
    see(node);
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| visit(item, see)),
        Value::Map(entries) => entries.iter().for_each(|entry| visit(&entry.value, see)),
        Value::Scalar { .. } => {}
    }
}

/// Refuses `${secret:…}` where its value could not be kept: in names, columns, expressions and what
/// tells splits apart, all of which are shown and stand in checkpoints. What is refused is covered
/// where it stands: an error about an expression would show parts of it.
pub(crate) fn refuse_misplaced(tree: &mut Node, found: &mut Vec<Diagnostic>) {
    misplaced(tree, &mut Vec::new(), found);
}

fn misplaced<'a>(node: &'a mut Node, path: &mut Vec<&'a str>, found: &mut Vec<Diagnostic>) {
    let kept = match path.as_slice() {
        ["settings", "checkpoint" | "dead_letters", ..] => true,
        ["sources" | "tables", _, connector, field, ..] => {
            let own = ["schema", "metadata", "event_time", "file", "generate"];
            !own.contains(connector) && *field != "topic"
        }
        ["sinks", _, connector, _, ..] => *connector != "from",
        ["plugins", ..] => true,
        _ => false,
    };
    match &mut node.value {
        Value::Scalar { text, .. } if node.origin == Origin::Secret && !kept => {
            COVER.clone_into(text);
            let message = "a secret cannot stand here: names, columns and expressions are shown, \
                           and are part of checkpoints";
            found.push(Diagnostic::error(node.span, message));
        }
        Value::Scalar { .. } => {}
        Value::List(items) => {
            for item in items {
                misplaced(item, path, found);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                path.push(&entry.key);
                misplaced(&mut entry.value, path, found);
                path.pop();
            }
        }
    }
}

/// Marks what stands in a field named like a credential, also where nobody asks for the field: in a
/// connector that is not supported yet, say.
pub(crate) fn mark_credentials(tree: &Node) {
    fn mark(node: &Node, path: &mut Vec<String>) {
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| mark(item, path)),
            Value::Map(entries) => {
                for entry in entries {
                    let table_key = path.len() == 2 && path.first().is_some_and(|p| p == "tables");
                    let name = entry.key.rsplit('.').next().unwrap_or_default();
                    let named = CREDENTIALS.contains(&name.to_lowercase().as_str());
                    if named && !table_key && matches!(entry.value.value, Value::Scalar { .. }) {
                        entry.value.covered.set(true);
                    }
                    if !OWN_NAMES.contains(&entry.key.as_str()) || path.len() < 2 {
                        path.push(entry.key.clone());
                        mark(&entry.value, path);
                        path.pop();
                    }
                }
            }
            Value::Scalar { .. } => {}
        }
    }
    mark(tree, &mut Vec::new());
}

/// The text of the definition with its literal secrets covered, character by character, so that
/// places stay what they are.
pub(crate) fn mask(text: &str, tree: &Node) -> String {
    let mut lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
    visit(tree, &mut |node| {
        let literal = node.origin == Origin::Literal && node.span != Span::OUTSIDE;
        if literal && (is_secret(node) || node.covered.get()) {
            let (first, last) = (node.span.line, node.end.0);
            for number in first..=last {
                let from = if number == first { node.span.column } else { 1 };
                let to = if number == last {
                    node.end.1
                } else {
                    usize::MAX
                };
                cover(&mut lines, number, from, to);
            }
        }
    });
    let lines: Vec<String> = lines.into_iter().map(String::from_iter).collect();
    lines.join("\n")
}

fn cover(lines: &mut [Vec<char>], number: usize, from: usize, to: usize) {
    let Some(line) = lines.get_mut(number.saturating_sub(1)) else {
        return;
    };
    let (from, to) = (from.saturating_sub(1), to.saturating_sub(1).min(line.len()));
    for c in line.get_mut(from..to).unwrap_or_default() {
        if !c.is_whitespace() {
            *c = '*';
        }
    }
}

/// The text of a definition that could not be parsed, with everything covered that follows the name
/// of a credential: on its line, and on the deeper lines behind it.
pub(crate) fn mask_unparsed(text: &str) -> String {
    let mut lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
    let mut deeper_than = None;
    for (at, line) in text.lines().enumerate() {
        let depth = line.chars().take_while(|c| c.is_whitespace()).count();
        let blank = line.trim().is_empty();
        if deeper_than.is_some_and(|limit| blank || depth > limit) {
            cover(&mut lines, at + 1, 1, usize::MAX);
            continue;
        }
        deeper_than = None;
        if let Some(from) = credential(line) {
            cover(&mut lines, at + 1, from, usize::MAX);
            deeper_than = Some(depth);
        }
    }
    let lines: Vec<String> = lines.into_iter().map(String::from_iter).collect();
    lines.join("\n")
}

/// The column (from 1) behind the first name of a credential in a line.
fn credential(line: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let behind = |name: &&str| {
        lower.match_indices(name).find_map(|(at, _)| {
            let before = lower[..at].chars().next_back();
            let rest = lower[at + name.len()..].trim_start_matches(['"', '\'', ' ']);
            let starts = before.is_none_or(|c| !word(c));
            (starts && rest.starts_with(':')).then(|| lower.len() - rest.len() + 1)
        })
    };
    let byte = CREDENTIALS.iter().filter_map(behind).min()?;
    line.get(..byte).map(|before| before.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::{Secrets, mask_unparsed};

    #[test]
    fn secrets_are_found_in_every_form() {
        let secrets = Secrets::new(&["a\"b/c=&longer".to_owned(), "a\"b/c".to_owned()]);
        for (text, shown) in [
            ("x a\"b/c=&longer y", "x ****** y"),
            (r#"{"k":"a\"b/c=&longer"}"#, r#"{"k":"******"}"#),
            ("u?k=a%22b%2Fc", "u?k=******"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(secrets.redact(text), shown);
        }
        assert_eq!(format!("{secrets:?}").find("longer"), None);
    }

    #[test]
    fn unparsed_text_is_covered_behind_credentials() {
        let text =
            "sinks:\n  a:\n    cosmos: { id: x, key: \"c2VjcmV0, b\n      more\n  b: { monkey: 1 }";
        let shown =
            "sinks:\n  a:\n    cosmos: { id: x, key: ********** *\n      ****\n  b: { monkey: 1 }";
        assert_eq!(mask_unparsed(text), shown);
    }
}
