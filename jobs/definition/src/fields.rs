//! The fields of a mapping, asked for by name; what nobody asked for is unknown.

use crate::diagnostic::{Diagnostic, Span, Spanned};
use crate::quantity;
use crate::tree::{Entry, Node, Value};

/// The fields of one mapping.
pub(crate) struct Fields<'a> {
    what: String,
    pub(crate) span: Span,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

type Found = Vec<Diagnostic>;

impl<'a> Fields<'a> {
    /// The fields of `node`, which `what` describes in errors.
    pub(crate) fn of(node: &'a Node, what: impl Into<String>, found: &mut Found) -> Option<Self> {
        let what = what.into();
        match &node.value {
            Value::Map(entries) => Some(Self {
                what,
                span: node.span,
                entries,
                known: Vec::new(),
            }),
            _ if node.is_null() => Some(Self {
                what,
                span: node.span,
                entries: &[],
                known: Vec::new(),
            }),
            _ => {
                let message = format!("{what} is a mapping, not {}", node.kind());
                found.push(Diagnostic::error(node.span, message));
                None
            }
        }
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

    /// Refuses fields that the reference names and nobody builds yet.
    pub(crate) fn later(&mut self, names: &[&'static str], found: &mut Found) {
        for name in names {
            if let Some(entry) = self.entry(name) {
                let message = format!("`{name}` of {} is not supported yet", self.what);
                found.push(Diagnostic::error(entry.at, message));
            }
        }
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
            present.extend(self.entry(name).map(|entry| (name, entry)));
        }
        let mut refused = false;
        for name in later {
            if let Some(entry) = self.entry(name) {
                refused = true;
                found.push(Diagnostic::error(
                    entry.at,
                    format!("`{name}` is not supported yet"),
                ));
            }
        }
        match present.as_slice() {
            [(name, entry)] => Some((*name, &entry.value)),
            [] if refused => None,
            [] => {
                let message = format!("{} says one of {}", self.what, names.join(", "));
                found.push(Diagnostic::error(self.span, message));
                None
            }
            [_, (name, entry), ..] => {
                let message = format!(
                    "{} says only one of {}, `{name}` is a second",
                    self.what,
                    names.join(", ")
                );
                found.push(Diagnostic::error(entry.at, message));
                None
            }
        }
    }

    pub(crate) fn missing(&self, name: &str, found: &mut Found) {
        found.push(Diagnostic::error(
            self.span,
            format!("{} has no `{name}`", self.what),
        ));
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
            self.missing(name, found);
        }
        self.text(name, found)
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

    /// Everything has been asked for: what is left is unknown.
    pub(crate) fn finish(self, found: &mut Found) {
        for entry in self
            .entries
            .iter()
            .filter(|entry| !self.known.contains(&entry.key.as_str()))
        {
            let message = format!("{} has no field `{}`", self.what, entry.key);
            let error = Diagnostic::error(entry.at, message);
            found.push(error.nearest(&entry.key, self.known.iter().copied()));
        }
    }
}

pub(crate) fn text(node: &Node, what: &str, found: &mut Found) -> Option<Spanned<String>> {
    match &node.value {
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
