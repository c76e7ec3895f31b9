//! The part of the query language that dashboards, demonstrations and oracles need: `where`,
//! `project`, `project-away`, `extend`, `summarize`, `distinct`, `count`, `take`, `top`, `order`,
//! `print`; comparisons, arithmetic, tests of text, `bin`, and the functions in `function.rs`.
//!
//! Deliberately absent: joins, series, `let`, graphs, rendering. What is not known is refused with
//! the service's own kind of error rather than guessed at.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "most operators mean nothing to most types, and give null"
)]

mod aggregate;
mod bind;
mod function;
mod lex;
mod parse;
mod run;
mod summarize;
mod syntax;
#[cfg(test)]
mod tests;

pub(crate) use lex::{Placed, Token, lex};
pub(crate) use parse::{Parser, parse};
pub(crate) use run::{Tabular, run};
pub(crate) use syntax::Source;

/// Why a query cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} error: {code}: {message}")]
pub(crate) struct QueryError {
    /// `Syntax` or `Semantic`.
    pub(crate) kind: &'static str,
    /// The service's code, such as `SEM0100`.
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl QueryError {
    pub(crate) fn syntax(at: usize, message: &str) -> Self {
        Self {
            kind: "Syntax",
            code: "SYN0002",
            message: format!("{message} (position {at})"),
        }
    }

    pub(crate) fn semantic(message: impl Into<String>) -> Self {
        Self {
            kind: "Semantic",
            code: "SEM0100",
            message: message.into(),
        }
    }
}
