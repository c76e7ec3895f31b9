//! Where something stands in a definition, and what is wrong with it.

use std::fmt::Write as _;

use serde::Serialize;

/// A place in the text: line and column from 1, length in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Span {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// Characters it covers, at least 1.
    pub length: usize,
}

impl Span {
    /// The beginning of the text: for what has no place of its own.
    pub const START: Self = Self {
        line: 1,
        column: 1,
        length: 1,
    };
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value that stands at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The job cannot run.
    Error,
    /// The job can run, but should not.
    Warning,
}

/// One thing that is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Where.
    #[serde(flatten)]
    pub span: Span,
    /// How bad.
    pub severity: Severity,
    /// What.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            severity: Severity::Error,
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a hint at the name in `valid` that is nearest to `wrong`, if one is near.
    #[must_use]
    pub fn nearest<'a>(mut self, wrong: &str, valid: impl IntoIterator<Item = &'a str>) -> Self {
        let near = |name: &str| strsim::damerau_levenshtein(wrong, name);
        let best = valid.into_iter().min_by_key(|name| near(name));
        let best = best.filter(|name| near(name) <= 1 + wrong.chars().count() / 3);
        self.hint = best
            .map(|name| format!("did you mean `{name}`?"))
            .or(self.hint);
        self
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Everything that is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{} in {file}", if found.len() == 1 { "an error".to_owned() } else { format!("{} errors", found.len()) })]
pub struct Diagnostics {
    /// The definition's name.
    pub file: String,
    /// What is wrong, in the order of the text.
    pub found: Vec<Diagnostic>,
    #[serde(skip)]
    text: String,
}

impl Diagnostics {
    /// Diagnostics of the definition `text`.
    #[must_use]
    pub fn new(file: &str, text: &str, mut found: Vec<Diagnostic>) -> Self {
        found.sort_by_key(|diagnostic| diagnostic.span);
        found.dedup();
        Self {
            file: file.to_owned(),
            found,
            text: text.to_owned(),
        }
    }

    /// For people: place, message, the line with a caret, a hint.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let (red, bold, off) = if color {
            ("\x1b[31;1m", "\x1b[1m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let mut out = String::new();
        for Diagnostic {
            span,
            severity,
            message,
            hint,
        } in &self.found
        {
            let word = match severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let line = self
                .text
                .lines()
                .nth(span.line.saturating_sub(1))
                .unwrap_or_default();
            let carets = "^".repeat(span.length.clamp(1, line.chars().count().max(1)));
            let indent: String = (line.chars().take(span.column.saturating_sub(1)))
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let number = span.line.to_string();
            let gutter = " ".repeat(number.len());
            // Writing to a string cannot fail.
            writeln!(
                out,
                "{bold}{}:{}:{}:{off} {red}{word}:{off} {message}\n{number} | {line}\n{gutter} | {indent}{red}{carets}{off}",
                self.file, span.line, span.column
            )
            .ok();
            if let Some(hint) = hint {
                writeln!(out, "{gutter} = hint: {hint}").ok();
            }
        }
        out
    }
}
