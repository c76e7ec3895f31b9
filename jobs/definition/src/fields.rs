//! The fields of a mapping, asked for by name; what nobody asked for is unknown.

use crate::diagnostic::{Diagnostic, Span, Spanned};
use crate::model::Secret;
use crate::quantity;
use crate::tree::{Entry, Node, Origin, Value};

/// The fields of one mapping.
pub(crate) struct Fields<'a> {
    what: String,
    pub(crate) span: Span,
    entries: &'a [Entry],
    known: Vec<&'static str>,
    /// Those of them that the reference names and nobody builds yet.
    later: Vec<&'static str>,
    /// Those of them that hold credentials.
    secret: Vec<&'static str>,
    /// What is not there and should be: one of some fields, and how to say so.
    missing: Vec<(Vec<&'static str>, String)>,
}

type Found = Vec<Diagnostic>;

impl<'a> Fields<'a> {
    /// The fields of `node`, which `what` describes in errors.
    pub(crate) fn of(node: &'a Node, what: impl Into<String>, found: &mut Found) -> Option<Self> {
        let what = what.into();
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            _ if node.is_null() => &[],
            Value::Scalar { .. } | Value::List(_) => {
                let message = format!("{what} is a mapping, not {}", node.kind());
                found.push(Diagnostic::error(node.span, message));
                return None;
            }
        };
        Some(Self {
            what,
            span: node.span,
            entries,
            known: Vec::new(),
            later: Vec::new(),
            secret: Vec::new(),
            missing: Vec::new(),
        })
    }

    pub(crate) fn entry(&mut self, name: &'static str) -> Option<&'a Entry> {
        self.known.push(name);
        self.entries
            .iter()
            .find(|entry| entry.key == name && !entry.value.is_null())
    }

    pub(crate) fn node(&mut self, name: &'static str) -> Option<&'a Node> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// A field that may stand without a value.
    fn bare(&mut self, name: &'static str) -> Option<&'a Entry> {
        self.known.push(name);
        self.entries.iter().find(|entry| entry.key == name)
    }

    /// Refuses fields that the reference names and nobody builds yet.
    pub(crate) fn later(&mut self, names: &[&'static str], found: &mut Found) -> bool {
        let mut refused = false;
        for name in names {
            self.later.push(name);
            if let Some(entry) = self.bare(name) {
                refused = true;
                let message = format!("`{name}` of {} is not supported yet", self.what);
                found.push(Diagnostic::error(entry.at, message));
            }
        }
        refused
    }

    /// Which one of several fields is there; an error unless it is exactly one.
    pub(crate) fn one_of(
        &mut self,
        names: &[&'static str],
        later: &[&'static str],
        found: &mut Found,
    ) -> Option<(&'static str, &'a Node)> {
        let mut present = Vec::new();
        for &name in names {
            present.extend(self.bare(name).map(|entry| (name, entry)));
        }
        let refused = self.later(later, found);
        match present.as_slice() {
            [(name, entry)] => Some((*name, &entry.value)),
            [] if refused => None,
            [] => {
                let message = match names {
                    [name] => format!("{} has no `{name}`", self.what),
                    names => format!("{} names one of {}", self.what, names.join(", ")),
                };
                let all = names.iter().chain(later).copied().collect();
                self.missing.push((all, message));
                None
            }
            [(first, _), (name, entry), ..] => {
                let message = format!(
                    "{} names only one of {}; it has `{first}` already, and `{name}`",
                    self.what,
                    names.join(", ")
                );
                found.push(Diagnostic::error(entry.at, message));
                None
            }
        }
    }

    /// Notes that a field should be there; told when all fields have been asked for.
    pub(crate) fn missing(&mut self, name: &'static str) {
        let message = format!("{} has no `{name}`", self.what);
        self.missing.push((vec![name], message));
    }

    pub(crate) fn text(
        &mut self,
        name: &'static str,
        found: &mut Found,
    ) -> Option<Spanned<String>> {
        text(self.node(name)?, name, found)
    }

    pub(crate) fn required(
        &mut self,
        name: &'static str,
        found: &mut Found,
    ) -> Option<Spanned<String>> {
        if self.entry(name).is_none() {
            self.missing(name);
        }
        self.filled(name, found)
    }

    /// A text that says something: an empty one is usually a variable that nobody has set.
    pub(crate) fn filled(
        &mut self,
        name: &'static str,
        found: &mut Found,
    ) -> Option<Spanned<String>> {
        let text = self.text(name, found)?;
        if text.value.is_empty() {
            found.push(Diagnostic::error(text.span, format!("`{name}` is empty")));
            return None;
        }
        Some(text)
    }

    /// A credential: never shown; a warning if it is written out.
    pub(crate) fn credential(&mut self, name: &'static str, found: &mut Found) -> Option<Secret> {
        self.secret.push(name);
        credential(self.node(name)?, name, found)
    }

    /// A value that `read` makes sense of; `form` says what it should look like.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &'static str,
        form: &str,
        read: impl Fn(&str) -> Option<T>,
        found: &mut Found,
    ) -> Option<T> {
        let text = self.text(name, found)?;
        let value = read(&text.value);
        if value.is_none() {
            let message = format!("`{name}` is {form}, not `{}`", text.value);
            found.push(Diagnostic::error(text.span, message));
        }
        value
    }

    pub(crate) fn duration(&mut self, name: &'static str, found: &mut Found) -> Option<u64> {
        self.parsed(name, "a duration such as 10s", quantity::duration_ms, found)
    }

    /// A duration that is not zero.
    pub(crate) fn positive_duration(
        &mut self,
        name: &'static str,
        found: &mut Found,
    ) -> Option<u64> {
        let positive = |text: &str| quantity::duration_ms(text).filter(|ms| *ms > 0);
        self.parsed(name, "a duration above zero such as 10s", positive, found)
    }

    pub(crate) fn size(&mut self, name: &'static str, found: &mut Found) -> Option<u64> {
        self.parsed(name, "a size such as 64MiB", quantity::size_bytes, found)
    }

    pub(crate) fn number<T: std::str::FromStr>(
        &mut self,
        name: &'static str,
        found: &mut Found,
    ) -> Option<T> {
        self.parsed(
            name,
            "a number",
            |text| text.replace('_', "").parse().ok(),
            found,
        )
    }

    /// A share between 0 and 1.
    pub(crate) fn share(&mut self, name: &'static str, found: &mut Found) -> Option<f64> {
        let share = |text: &str| {
            text.parse()
                .ok()
                .filter(|share| (0.0..=1.0).contains(share))
        };
        self.parsed(name, "a share between 0 and 1", share, found)
    }

    pub(crate) fn flag(&mut self, name: &'static str, found: &mut Found) -> Option<bool> {
        self.parsed(name, "true or false", |text| text.parse().ok(), found)
    }

    /// One of several words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&'static str, T)],
        found: &mut Found,
    ) -> Option<T> {
        let text = self.text(name, found)?;
        let choice = words.iter().find(|(word, _)| *word == text.value);
        if choice.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let message = format!(
                "`{name}` is one of {}, not `{}`",
                all.join(", "),
                text.value
            );
            found.push(Diagnostic::error(text.span, message).nearest(&text.value, all));
        }
        choice.map(|(_, value)| *value)
    }

    /// A list of texts; a single one stands for a list of one.
    pub(crate) fn texts(&mut self, name: &'static str, found: &mut Found) -> Vec<Spanned<String>> {
        self.node(name)
            .map(|node| texts(node, name, found))
            .unwrap_or_default()
    }

    /// A mapping of texts to texts, in order.
    pub(crate) fn pairs(
        &mut self,
        name: &'static str,
        found: &mut Found,
    ) -> Vec<(Spanned<String>, Spanned<String>)> {
        self.node(name)
            .map(|node| pairs(node, name, found))
            .unwrap_or_default()
    }

    /// Everything has been asked for: what is left is unknown, and what is missing is missing,
    /// unless it is there under a misspelt name.
    pub(crate) fn finish(self, found: &mut Found) {
        let mut meant: Vec<String> = Vec::new();
        for entry in self
            .entries
            .iter()
            .filter(|entry| !self.known.contains(&entry.key.as_str()))
        {
            let message = format!("{} has no field `{}`", self.what, entry.key);
            let error = Diagnostic::error(entry.at, message);
            let error = torn(error, &entry.key);
            let error = error.nearest(&entry.key, self.known.iter().copied());
            let hint = error.hint.as_deref().unwrap_or_default();
            let name = self
                .known
                .iter()
                .find(|name| hint.contains(&format!("`{name}`")));
            // A credential under a misspelt name is one all the same.
            if name.is_some_and(|name| self.secret.contains(name)) {
                entry.value.secret.set(true);
            }
            meant.extend(name.map(|name| (*name).to_owned()));
            found.push(error);
        }
        for (names, message) in &self.missing {
            if !names
                .iter()
                .any(|name| meant.iter().any(|meant| meant == name))
            {
                found.push(Diagnostic::error(self.span, message.clone()));
            }
        }
        #[cfg(test)]
        asked::record(&self);
    }
}

/// With a hint if a key is the rest of a call, which YAML has torn apart at its comma.
fn torn(error: Diagnostic, key: &str) -> Diagnostic {
    match key.matches(')').count() > key.matches('(').count() {
        true => error.hint("within { } a comma ends a value: quote a value that has one"),
        false => error,
    }
}

/// A credential that stands at `node`.
pub(crate) fn credential(node: &Node, name: &str, found: &mut Found) -> Option<Secret> {
    node.secret.set(true);
    let text = text(node, name, found)?;
    if node.origin == Origin::Literal {
        let message = format!("`{name}` is a credential and is written out");
        let hint = "take it from outside: ${secret:NAME} or ${file:PATH}";
        found.push(Diagnostic::warning(text.span, message).hint(hint));
    }
    Some(Secret::new(text.value))
}

pub(crate) fn text(node: &Node, what: &str, found: &mut Found) -> Option<Spanned<String>> {
    match &node.value {
        Value::Scalar { .. } if node.is_null() => {
            let error = Diagnostic::error(node.span, format!("`{what}` is empty"));
            found.push(torn(error, what));
            None
        }
        Value::Scalar { text, .. } => Some(Spanned::new(text.clone(), node.span)),
        Value::List(_) | Value::Map(_) => {
            let message = format!("`{what}` is a single value, not {}", node.kind());
            found.push(Diagnostic::error(node.span, message));
            None
        }
    }
}

pub(crate) fn texts(node: &Node, what: &str, found: &mut Found) -> Vec<Spanned<String>> {
    match &node.value {
        Value::List(items) => items
            .iter()
            .filter_map(|item| text(item, what, found))
            .collect(),
        Value::Scalar { .. } | Value::Map(_) => text(node, what, found).into_iter().collect(),
    }
}

pub(crate) fn pairs(
    node: &Node,
    what: &str,
    found: &mut Found,
) -> Vec<(Spanned<String>, Spanned<String>)> {
    let Value::Map(entries) = &node.value else {
        let message = format!("`{what}` is a mapping, not {}", node.kind());
        found.push(Diagnostic::error(node.span, message));
        return Vec::new();
    };
    (entries.iter())
        .filter_map(|entry| {
            let key = Spanned::new(entry.key.clone(), entry.at);
            Some((key, text(&entry.value, &entry.key, found)?))
        })
        .collect()
}

/// Which fields the walk has asked for, so that the schema can be held against it.
#[cfg(test)]
pub(crate) mod asked {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::Fields;
    use crate::diagnostic::Span;

    /// The fields of the mapping at `span`.
    #[derive(Clone, Debug)]
    pub(crate) struct Asked {
        pub(crate) span: Span,
        pub(crate) built: BTreeSet<&'static str>,
        pub(crate) later: BTreeSet<&'static str>,
        pub(crate) secret: BTreeSet<&'static str>,
    }

    thread_local! {
        static ASKED: RefCell<Vec<Asked>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn record(fields: &Fields<'_>) {
        let later: BTreeSet<_> = fields.later.iter().copied().collect();
        let built = fields.known.iter().copied();
        let asked = Asked {
            span: fields.span,
            built: built.filter(|name| !later.contains(name)).collect(),
            later,
            secret: fields.secret.iter().copied().collect(),
        };
        ASKED.with_borrow_mut(|all| all.push(asked));
    }

    /// Everything asked for on this thread since the last call.
    pub(crate) fn taken() -> Vec<Asked> {
        ASKED.take()
    }
}
