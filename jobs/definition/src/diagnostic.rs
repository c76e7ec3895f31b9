//! Where something stands in a definition, and what is wrong with it.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Serialize;

use crate::secret::Secrets;

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

    /// No place in the text: for what was set on the command line.
    pub const OUTSIDE: Self = Self {
        line: 0,
        column: 0,
        length: 0,
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

/// Characters shown of a line at most: a definition may be a single one of a mebibyte…
const SHOWN_CHARS_MAX: usize = 200;
/// …and how many of them stand before the place at most.
const BEFORE_CHARS_MAX: usize = 120;

/// Most that is told of what is wrong with one definition.
const TOLD_MAX: usize = 200;
/// Longest name that may be misspelt, bytes: a name has 63.
const MISSPELT_BYTES_MAX: usize = 128;
/// Most names that a misspelt one is compared with.
const CANDIDATES_MAX: usize = 64;

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

    /// A warning at `span`.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(span, message)
        }
    }

    /// The same with a hint at the name in `valid` that is nearest to `wrong`, if one is near.
    #[must_use]
    pub fn nearest<'a>(mut self, wrong: &str, valid: impl IntoIterator<Item = &'a str>) -> Self {
        let near = |name: &str| strsim::damerau_levenshtein(wrong, name);
        let far = 1 + wrong.chars().count() / 3;
        // Comparing takes the product of both lengths: only what could be near is worth it.
        let letters = Letters::of(wrong);
        let close = |name: &&str| {
            wrong.len() <= MISSPELT_BYTES_MAX
                && name.len().abs_diff(wrong.len()) <= 4 * far
                && letters.apart_at_least(name) <= far
        };
        let mut candidates: Vec<&str> = valid.into_iter().filter(close).collect();
        // Those that begin alike and are about as long first: there may be hundreds of functions.
        candidates.sort_by_key(|name| {
            let unlike = name.chars().next() != wrong.chars().next();
            (unlike, name.len().abs_diff(wrong.len()))
        });
        let candidates = candidates.into_iter().take(CANDIDATES_MAX);
        let best = candidates.min_by_key(|name| near(name));
        let best = best.filter(|name| near(name) <= far);
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

/// How often each letter stands in a name, those alike in their last six bits taken as one.
struct Letters([u8; 64]);

impl Letters {
    fn of(name: &str) -> Self {
        let mut counts = [0_u8; 64];
        for letter in name.chars() {
            let count = &mut counts[letter as usize % 64];
            *count = count.saturating_add(1);
        }
        Self(counts)
    }

    /// Edits that it takes at least to make `name` of this one: none brings in, or takes out, more
    /// than one letter.
    fn apart_at_least(&self, name: &str) -> usize {
        let other = Self::of(name);
        let count = |letters: &[u8]| letters.iter().map(|count| u32::from(*count)).sum::<u32>();
        let pairs = self.0.iter().zip(&other.0);
        let unlike: u32 = pairs
            .map(|(own, other)| u32::from(own.abs_diff(*other)))
            .sum();
        // What one has beyond the other is the greater of both surpluses.
        (unlike + count(&self.0).abs_diff(count(&other.0))) as usize / 2
    }
}

/// The text of a definition as it may be shown: its name, its lines with credentials covered, and
/// the values that must not be shown.
#[derive(Clone, Debug, Default)]
pub struct Document {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) secrets: Secrets,
}

impl Document {
    /// Its secret values.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Its text with literal credentials covered.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is wrong with it, in the order of the text, and of more than anybody reads the number.
    #[must_use]
    pub fn diagnostics(&self, mut found: Vec<Diagnostic>) -> Diagnostics {
        found.sort_by_key(|diagnostic| diagnostic.span);
        found.dedup();
        if found.len() > TOLD_MAX {
            let more = found.split_off(TOLD_MAX);
            let message = format!("and {} more", more.len());
            let mut last =
                Diagnostic::error(more.first().map_or(Span::START, |one| one.span), message);
            if (more.iter()).all(|one| one.severity == Severity::Warning) {
                last.severity = Severity::Warning;
            }
            found.push(last);
        }
        for diagnostic in &mut found {
            let shown = self.secrets.redact(&diagnostic.message).into_owned();
            diagnostic.message = shown;
            let hint = diagnostic.hint.take();
            diagnostic.hint = hint.map(|hint| self.secrets.redact(&hint).into_owned());
        }
        // What differed in a secret alone.
        found.dedup();
        Diagnostics {
            file: self.name.clone(),
            found,
            text: self.secrets.redact(&self.text).into_owned(),
        }
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
    /// Whether the job can run in spite of them: there are warnings at most.
    #[must_use]
    pub fn only_warnings(&self) -> bool {
        let warning = |found: &Diagnostic| found.severity == Severity::Warning;
        self.found.iter().all(warning)
    }

    /// For people: place, message, the line with a caret, a hint.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let mut out = String::new();
        for diagnostic in &self.found {
            // Writing to a string cannot fail.
            self.render_one(diagnostic, color, &mut out).ok();
        }
        out
    }

    fn render_one(&self, found: &Diagnostic, color: bool, out: &mut String) -> std::fmt::Result {
        let Diagnostic {
            span,
            severity,
            message,
            hint,
        } = found;
        let (paint, word) = match severity {
            Severity::Error => ("\x1b[31;1m", "error"),
            Severity::Warning => ("\x1b[33;1m", "warning"),
        };
        let (paint, bold, off) = match color {
            true => (paint, "\x1b[1m", "\x1b[0m"),
            false => ("", "", ""),
        };
        let file = &self.file;
        if *span == Span::OUTSIDE {
            writeln!(
                out,
                "{bold}{file}:{off} {paint}{word}:{off} by --set: {message}"
            )?;
            return hint
                .iter()
                .try_for_each(|hint| writeln!(out, "  = hint: {hint}"));
        }
        let Span {
            line,
            column,
            length,
        } = span;
        let shown = self.text.lines().nth(line.saturating_sub(1));
        let (shown, before) = excerpt(shown.unwrap_or_default(), *column);
        let width = shown.chars().count();
        let carets = "^".repeat((*length).clamp(1, width.saturating_sub(before).max(1)));
        let indent: String = (shown.chars().take(before))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let gutter = " ".repeat(line.to_string().len());
        writeln!(
            out,
            "{bold}{file}:{line}:{column}:{off} {paint}{word}:{off} {message}"
        )?;
        writeln!(
            out,
            "{line} | {shown}\n{gutter} | {indent}{paint}{carets}{off}"
        )?;
        hint.iter()
            .try_for_each(|hint| writeln!(out, "{gutter} = hint: {hint}"))
    }
}

/// What is shown of a line, and how many characters of it stand before `column`.
fn excerpt(line: &str, column: usize) -> (Cow<'_, str>, usize) {
    let before = column.saturating_sub(1);
    let count = line.chars().count();
    if count <= SHOWN_CHARS_MAX {
        return (Cow::Borrowed(line), before);
    }
    let from = before.saturating_sub(BEFORE_CHARS_MAX);
    let mut shown: String = line.chars().skip(from).take(SHOWN_CHARS_MAX).collect();
    if from + SHOWN_CHARS_MAX < count {
        shown.push('…');
    }
    match from {
        0 => (Cow::Owned(shown), before),
        _ => (Cow::Owned(format!("…{shown}")), before - from + 1),
    }
}
