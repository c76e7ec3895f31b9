//! What a query is made of.

use crate::value::{Datum, Kind};

/// A query: where rows come from, and what is done to them one after the other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) source: Source,
    pub(crate) steps: Vec<Step>,
}

/// Where rows come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Table(String),
    /// One row of expressions.
    Print(Vec<Named>),
    /// What precedes the first bar is given by the caller.
    Given,
}

/// An expression with the name of its column, if it was given one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) name: Option<String>,
    pub(crate) expression: Expression,
}

/// One operator of a query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Where(Expression),
    Project(Vec<Named>),
    ProjectAway(Vec<String>),
    Extend(Vec<Named>),
    Summarize {
        aggregates: Vec<Named>,
        by: Vec<Named>,
    },
    Count,
    Take(usize),
    Order(Vec<Key>),
    Top(usize, Vec<Key>),
}

/// What to sort by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) expression: Expression,
    pub(crate) descending: bool,
    pub(crate) nulls_first: bool,
}

/// A scalar expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    Literal(Datum, Kind),
    Column(String),
    Call(String, Vec<Expression>),
    Negate(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    /// Value, bounds, negated.
    Between(Box<Expression>, Box<Expression>, Box<Expression>, bool),
    /// Value, list, whether case matters, negated.
    In(Box<Expression>, Vec<Expression>, bool, bool),
    /// A member of a dynamic value.
    Member(Box<Expression>, Box<Expression>),
    /// Every column, as `arg_max(x, *)` has it.
    Star,
}

/// An operator between two expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    EqualFold,
    NotEqualFold,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    /// A test of text, and whether it is negated.
    Text(TextTest, bool),
}

/// A test of one text by another; case never matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextTest {
    /// Whole words.
    Has,
    Contains,
    StartsWith,
    EndsWith,
}
