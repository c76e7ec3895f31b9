//! The document as a tree in which every value knows where it stands.

use std::cell::Cell;
use std::collections::HashMap;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span as Marks};

use crate::diagnostic::{Diagnostic, Span};

/// Deepest nesting: lists and mappings in one another.
const DEPTH_MAX: usize = 64;

/// A value.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    /// Line and column behind its end.
    pub(crate) end: (usize, usize),
    pub(crate) origin: Origin,
    /// Whether it is a credential, as whoever asked for it has found.
    pub(crate) secret: Cell<bool>,
    /// Whether it looks like a credential and is not to be shown.
    pub(crate) covered: Cell<bool>,
    pub(crate) value: Value,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It is written in the definition.
    Literal,
    /// Some of it was substituted.
    Substituted,
    /// Some of it was substituted by a secret.
    Secret,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Text, and whether it was written without quotes (so that it may be a number or a null).
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Span,
    pub(crate) value: Node,
}

impl Node {
    fn new(span: Span, end: (usize, usize), value: Value) -> Self {
        Self {
            span,
            end,
            origin: Origin::Literal,
            secret: Cell::new(false),
            covered: Cell::new(false),
            value,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        let null = |text: &str| matches!(text, "" | "~" | "null" | "Null" | "NULL");
        matches!(&self.value, Value::Scalar { text, plain: true } if null(text))
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// A document, and what is in it twice.
pub(crate) struct Parsed {
    pub(crate) root: Node,
    /// What stands under a key that is there already: a list of mappings. It is no part of the
    /// definition, and what is secret in it is to be covered all the same.
    pub(crate) repeated: Node,
    pub(crate) found: Vec<Diagnostic>,
}

/// Parses one document.
pub(crate) fn parse(text: &str) -> Result<Parsed, Diagnostic> {
    let mut events = Events {
        parser: Parser::new_from_str(text),
        ended: Span::START,
        behind: (1, 1),
        repeated: Vec::new(),
        found: Vec::new(),
    };
    let mut document = None;
    while let Some((event, span)) = events.next()? {
        if !matches!(event, Event::DocumentStart(..)) {
            continue;
        }
        if document.is_some() {
            let message = "a definition is one document, this is another";
            return Err(Diagnostic::error(span, message));
        }
        let (event, span) = events.expect()?;
        document = Some(events.node(event, span, 0)?);
    }
    let root = document.ok_or_else(|| Diagnostic::error(Span::START, "the definition is empty"))?;
    Ok(Parsed {
        root,
        repeated: Node::new(Span::START, (1, 1), Value::List(events.repeated)),
        found: events.found,
    })
}

struct Events<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    ended: Span,
    /// Line and column behind the last event.
    behind: (usize, usize),
    repeated: Vec<Node>,
    found: Vec<Diagnostic>,
}

fn span(marks: &Marks) -> Span {
    let place = |mark: &Marker| (mark.line(), mark.col() + 1);
    let ((line, column), (end_line, end_column)) = (place(&marks.start), place(&marks.end));
    let length = if line == end_line {
        end_column.saturating_sub(column).max(1)
    } else {
        1
    };
    Span {
        line,
        column,
        length,
    }
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Diagnostic> {
        match self.parser.next() {
            None => Ok(None),
            Some(Ok((event, marks))) => {
                self.ended = span(&marks);
                self.behind = (marks.end.line(), marks.end.col() + 1);
                Ok(Some((event, self.ended)))
            }
            Some(Err(error)) => {
                let mark = error.marker();
                let at = Span {
                    line: mark.line(),
                    column: mark.col() + 1,
                    length: 1,
                };
                Err(Diagnostic::error(
                    at,
                    format!("not YAML: {}", error.info().replace('\n', " ")),
                ))
            }
        }
    }

    fn expect(&mut self) -> Result<(Event<'a>, Span), Diagnostic> {
        let ended = self.ended;
        self.next()?
            .ok_or_else(|| Diagnostic::error(ended, "the document ends here"))
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's enum may grow, and what it grows by is refused"
    )]
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Diagnostic> {
        let holds = matches!(event, Event::SequenceStart(..) | Event::MappingStart(..));
        if holds && depth >= DEPTH_MAX {
            return Err(Diagnostic::error(
                span,
                format!("nested more than {DEPTH_MAX} deep"),
            ));
        }
        let refuse = |what: &str| Err(Diagnostic::error(span, format!("{what} are not allowed")));
        let value = match event {
            Event::Alias(_) | Event::UnresolvedAlias(_) => return refuse("aliases"),
            Event::Anchor(..) => return refuse("anchors"),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => return refuse("tags"),
            Event::Scalar(text, style, 0, None) => Value::Scalar {
                text: text.into_owned(),
                plain: style == ScalarStyle::Plain,
            },
            Event::SequenceStart(_, 0, None) => self.list(depth)?,
            Event::MappingStart(_, 0, None) => self.map(depth)?,
            _ => return refuse("anchors"),
        };
        Ok(Node::new(span, self.behind, value))
    }

    fn list(&mut self, depth: usize) -> Result<Value, Diagnostic> {
        let mut items = Vec::new();
        loop {
            match self.expect()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Diagnostic> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, at) = self.expect()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Map(entries));
            }
            let Value::Scalar { text: key, .. } = self.node(event, at, depth + 1)?.value else {
                return Err(Diagnostic::error(at, "a key is a single value"));
            };
            let (event, span) = self.expect()?;
            let value = self.node(event, span, depth + 1)?;
            if let Some(first) = lines.get(&key) {
                let message = format!("`{key}` is there already, in line {first}");
                self.found.push(Diagnostic::error(at, message));
                let again = Value::Map(vec![Entry { key, at, value }]);
                self.repeated.push(Node::new(at, self.behind, again));
                continue;
            }
            lines.insert(key.clone(), at.line);
            entries.push(Entry { key, at, value });
        }
    }
}

/// Puts a value at a path such as `sinks.out.file.path`; mappings on the way are made.
pub(crate) fn set(root: &mut Node, path: &str, value: &str) -> Result<(), String> {
    let mut at = root;
    for name in path.split('.') {
        if name.is_empty() {
            return Err("the path has an empty part".to_owned());
        }
        if at.is_null() {
            at.value = Value::Map(Vec::new());
        }
        let kind = at.kind();
        let Value::Map(entries) = &mut at.value else {
            return Err(format!("`{name}` cannot be set in {kind}"));
        };
        let found = entries.iter().position(|entry| entry.key == name);
        let position = found.unwrap_or_else(|| {
            let null = Value::Scalar {
                text: String::new(),
                plain: true,
            };
            let value = Node::new(Span::OUTSIDE, (0, 0), null);
            entries.push(Entry {
                key: name.to_owned(),
                at: Span::OUTSIDE,
                value,
            });
            entries.len() - 1
        });
        let entry = entries.get_mut(position).ok_or("there is no such field")?;
        at = &mut entry.value;
    }
    let empty = Value::Scalar {
        text: String::new(),
        plain: false,
    };
    *at = match value {
        "" => Node::new(Span::OUTSIDE, (0, 0), empty),
        text => {
            let parsed = parse(text).map_err(|error| error.message)?;
            if let Some(error) = parsed.found.into_iter().next() {
                return Err(error.message);
            }
            parsed.root
        }
    };
    outside(at);
    Ok(())
}

/// What was set on the command line stands nowhere in the definition.
fn outside(node: &mut Node) {
    (node.span, node.end) = (Span::OUTSIDE, (0, 0));
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(outside),
        Value::Map(entries) => {
            for entry in entries {
                entry.at = Span::OUTSIDE;
                outside(&mut entry.value);
            }
        }
        Value::Scalar { .. } => {}
    }
}
