//! Cuts queries and commands into tokens.

use crate::kql::QueryError;
use crate::value::{Datum, Kind, parse_span};

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A name or a word; operators such as `!in` and `in~` are words too.
    Word(String),
    /// A name in brackets: `['a b']`.
    Quoted(String),
    Text(String),
    Literal(Datum, Kind),
    Symbol(&'static str),
}

/// A token and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) at: usize,
}

const SYMBOLS: [&str; 25] = [
    "==", "!=", "=~", "!~", "<=", ">=", "..", "<|", "<", ">", "=", "+", "-", "*", "/", "%", "(",
    ")", "[", "]", ",", ".", "|", ";", ":",
];

/// Words whose parentheses hold a literal.
const LITERALS: [&str; 12] = [
    "datetime", "timespan", "time", "guid", "dynamic", "bool", "int", "long", "real", "double",
    "decimal", "date",
];

/// The tokens of `text`.
pub(crate) fn lex(text: &str) -> Result<Vec<Placed>, QueryError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    while let Some(placed) = lexer.next()? {
        tokens.push(placed);
    }
    Ok(tokens)
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn next(&mut self) -> Result<Option<Placed>, QueryError> {
        self.skip_blank();
        let (rest, at) = (self.rest(), self.at);
        let Some(first) = rest.chars().next() else {
            return Ok(None);
        };
        let token = if first.is_ascii_digit() {
            self.number()?
        } else if first.is_alphabetic() || first == '_' || first == '$' {
            self.word()?
        } else if first == '!'
            && rest
                .get(1..)
                .is_some_and(|r| r.starts_with(char::is_alphabetic))
        {
            self.at += 1;
            let word = self.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '~'));
            Token::Word(format!("!{word}"))
        } else if matches!(first, '\'' | '"') || rest.starts_with("@'") || rest.starts_with("@\"") {
            Token::Text(self.string()?)
        } else if rest.starts_with("['") || rest.starts_with("[\"") {
            self.at += 1;
            let name = self.string()?;
            if !self.rest().starts_with(']') {
                return Err(QueryError::syntax(
                    self.at,
                    "a name in brackets does not end",
                ));
            }
            self.at += 1;
            Token::Quoted(name)
        } else {
            let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
            let symbol = symbol.ok_or_else(|| {
                QueryError::syntax(at, &format!("unexpected character {first:?}"))
            })?;
            self.at += symbol.len();
            Token::Symbol(symbol)
        };
        Ok(Some(Placed { token, at }))
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn word(&mut self) -> Result<Token, QueryError> {
        let word = self.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '$'));
        // `h'…'` is a string that is not to be logged.
        if matches!(word, "h" | "H") && self.rest().starts_with(['\'', '"', '@']) {
            return Ok(Token::Text(self.string()?));
        }
        if self.rest().starts_with('~') && word == "in" {
            self.at += 1;
            return Ok(Token::Word("in~".to_owned()));
        }
        if LITERALS.contains(&word) && self.rest().trim_start().starts_with('(') {
            return self.literal(word);
        }
        match word {
            "true" => Ok(Token::Literal(Datum::Bool(true), Kind::Bool)),
            "false" => Ok(Token::Literal(Datum::Bool(false), Kind::Bool)),
            word => Ok(Token::Word(word.to_owned())),
        }
    }

    /// `datetime(2024-01-01)` and its like: what stands in the parentheses is no expression.
    fn literal(&mut self, word: &str) -> Result<Token, QueryError> {
        let at = self.at;
        let kind: Kind = (word.parse()).map_err(|()| QueryError::syntax(at, "unknown type"))?;
        self.skip_blank();
        self.at += 1;
        let inner = self.take_while(|c| c != ')').trim();
        if !self.rest().starts_with(')') {
            return Err(QueryError::syntax(at, "a literal does not end"));
        }
        self.at += 1;
        let inner = inner.trim_matches(['\'', '"']);
        let value = match inner {
            "null" => Datum::Null,
            inner => Datum::parse(kind, inner),
        };
        if value.is_null() && inner != "null" {
            return Err(QueryError::syntax(at, &format!("{inner:?} is no {word}")));
        }
        Ok(Token::Literal(value, kind))
    }

    fn number(&mut self) -> Result<Token, QueryError> {
        let at = self.at;
        let mut text = self.take_while(|c| c.is_ascii_digit()).to_owned();
        let rest = self.rest();
        let fraction = rest
            .get(1..)
            .is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
        if rest.starts_with('.') && fraction {
            self.at += 1;
            text.push('.');
            text.push_str(self.take_while(|c| c.is_ascii_digit()));
        }
        let unit = self.take_while(|c| c.is_ascii_alphabetic());
        if let Some(exponent) = unit.strip_prefix(['e', 'E'])
            && exponent.is_empty()
        {
            text.push('e');
            if self.rest().starts_with(['+', '-']) {
                text.push_str(self.rest().get(..1).unwrap_or_default());
                self.at += 1;
            }
            text.push_str(self.take_while(|c| c.is_ascii_digit()));
        } else if !unit.is_empty() {
            let span = parse_span(&format!("{text}{unit}"));
            let span =
                span.ok_or_else(|| QueryError::syntax(at, &format!("unknown unit {unit:?}")))?;
            return Ok(Token::Literal(Datum::Span(span), Kind::TimeSpan));
        }
        let wrong = || QueryError::syntax(at, &format!("{text:?} is no number"));
        if text.contains(['.', 'e']) {
            let value = text.parse().map_err(|_| wrong())?;
            return Ok(Token::Literal(Datum::Real(value), Kind::Real));
        }
        let value = text.parse().map_err(|_| wrong())?;
        Ok(Token::Literal(Datum::Long(value), Kind::Long))
    }

    fn string(&mut self) -> Result<String, QueryError> {
        let at = self.at;
        let unended = || QueryError::syntax(at, "a string does not end");
        let verbatim = self.rest().starts_with('@');
        self.at += usize::from(verbatim);
        let quote = self.rest().chars().next().ok_or_else(unended)?;
        self.at += 1;
        let mut out = String::new();
        loop {
            let mut chars = self.rest().chars();
            let c = chars.next().ok_or_else(unended)?;
            self.at += c.len_utf8();
            if c == quote {
                // In a verbatim string a doubled quote stands for itself.
                if verbatim && chars.next() == Some(quote) {
                    self.at += 1;
                    out.push(quote);
                    continue;
                }
                return Ok(out);
            }
            if c != '\\' || verbatim {
                out.push(c);
                continue;
            }
            let escaped = chars.next().ok_or_else(unended)?;
            self.at += escaped.len_utf8();
            out.push(match escaped {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '0' => '\0',
                other => other,
            });
        }
    }
}
