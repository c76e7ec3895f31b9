//! Resolves names and types: after it, evaluation cannot fail.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use crate::kql::QueryError;
use crate::kql::function::{Function, contains_word};
use crate::kql::syntax::{Expression, Operator, TextTest};
use crate::value::{Datum, Kind};

/// A column of rows that flow through a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// An expression whose names are positions and whose type is known.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    node: Node,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
enum Node {
    Literal(Datum),
    Column(usize),
    Call(Function, Vec<Bound>),
    Negate(Box<Bound>),
    Binary(Operator, Box<Bound>, Box<Bound>),
    Between(Box<Bound>, Box<Bound>, Box<Bound>, bool),
    In(Box<Bound>, Vec<Bound>, bool, bool),
    Member(Box<Bound>, Box<Bound>),
}

/// Binds `expression` to rows of `columns`. `now` is the service's time in ticks.
pub(crate) fn bind(
    expression: &Expression,
    columns: &[Column],
    now: i64,
) -> Result<Bound, QueryError> {
    let bound = |node, kind| Ok(Bound { node, kind });
    let child = |expression: &Expression| bind(expression, columns, now);
    let boxed = |expression: &Expression| child(expression).map(Box::new);
    match expression {
        Expression::Literal(value, kind) => bound(Node::Literal(value.clone()), *kind),
        Expression::Column(name) => {
            let at = columns.iter().position(|column| column.name == *name);
            let Some((at, column)) = at.and_then(|at| columns.get(at).map(|c| (at, c))) else {
                return Err(QueryError::semantic(format!(
                    "Failed to resolve column or scalar expression named '{name}'"
                )));
            };
            bound(Node::Column(at), column.kind)
        }
        Expression::Call(name, arguments) => match (name.as_str(), arguments.as_slice()) {
            ("now", []) => bound(Node::Literal(Datum::Time(now)), Kind::DateTime),
            ("ago", [Expression::Literal(Datum::Span(span), _)]) => {
                bound(Node::Literal(Datum::Time(now - span)), Kind::DateTime)
            }
            // What is known of a row's extent travels in columns that are never shown.
            ("extent_tags" | "ingestion_time" | "extent_id", []) => {
                child(&Expression::Column(format!("${name}")))
            }
            (name, arguments) => {
                let arguments = arguments.iter().map(child).collect::<Result<Vec<_>, _>>()?;
                let kinds: Vec<Kind> = arguments.iter().map(|argument| argument.kind).collect();
                let (function, kind) = Function::find(name, &kinds)?;
                bound(Node::Call(function, arguments), kind)
            }
        },
        Expression::Negate(inner) => {
            let inner = boxed(inner)?;
            let kind = inner.kind;
            bound(Node::Negate(inner), kind)
        }
        Expression::Binary(operator, left, right) => {
            let (left, right) = (boxed(left)?, boxed(right)?);
            let kind = result_kind(*operator, left.kind, right.kind)?;
            bound(Node::Binary(*operator, left, right), kind)
        }
        Expression::Between(value, low, high, negated) => bound(
            Node::Between(boxed(value)?, boxed(low)?, boxed(high)?, *negated),
            Kind::Bool,
        ),
        Expression::In(value, list, case, negated) => {
            let list = list.iter().map(child).collect::<Result<Vec<_>, _>>()?;
            bound(Node::In(boxed(value)?, list, *case, *negated), Kind::Bool)
        }
        Expression::Member(value, key) => {
            bound(Node::Member(boxed(value)?, boxed(key)?), Kind::Dynamic)
        }
        Expression::Star => Err(QueryError::semantic("'*' is no scalar expression")),
    }
}

fn result_kind(operator: Operator, left: Kind, right: Kind) -> Result<Kind, QueryError> {
    let number = |kind: Kind| kind.is_number() || kind == Kind::Dynamic;
    let refused = || {
        QueryError::semantic(format!(
            "Cannot apply operator {operator:?} to arguments of type {} and {}",
            left.name(),
            right.name()
        ))
    };
    let comparable = || {
        left == right
            || left == Kind::Dynamic
            || right == Kind::Dynamic
            || (number(left) && number(right))
    };
    match operator {
        Operator::Or | Operator::And => match (left, right) {
            (Kind::Bool | Kind::Dynamic, Kind::Bool | Kind::Dynamic) => Ok(Kind::Bool),
            _ => Err(refused()),
        },
        Operator::Equal
        | Operator::NotEqual
        | Operator::EqualFold
        | Operator::NotEqualFold
        | Operator::Less
        | Operator::LessEqual
        | Operator::Greater
        | Operator::GreaterEqual
            if comparable() =>
        {
            Ok(Kind::Bool)
        }
        Operator::Equal
        | Operator::NotEqual
        | Operator::EqualFold
        | Operator::NotEqualFold
        | Operator::Less
        | Operator::LessEqual
        | Operator::Greater
        | Operator::GreaterEqual => Err(refused()),
        Operator::Text(..) => Ok(Kind::Bool),
        Operator::Add
        | Operator::Subtract
        | Operator::Multiply
        | Operator::Divide
        | Operator::Modulo => match (operator, left, right) {
            (Operator::Add | Operator::Subtract, Kind::DateTime, Kind::TimeSpan)
            | (Operator::Add, Kind::TimeSpan, Kind::DateTime) => Ok(Kind::DateTime),
            (Operator::Subtract, Kind::DateTime, Kind::DateTime)
            | (Operator::Add | Operator::Subtract, Kind::TimeSpan, Kind::TimeSpan) => {
                Ok(Kind::TimeSpan)
            }
            (Operator::Divide, Kind::TimeSpan, Kind::TimeSpan) => Ok(Kind::Real),
            (Operator::Multiply | Operator::Divide, Kind::TimeSpan, right) if number(right) => {
                Ok(Kind::TimeSpan)
            }
            (_, left, right) if number(left) && number(right) => Ok(match (left, right) {
                (Kind::Int, Kind::Int) => Kind::Int,
                (Kind::Int | Kind::Long, Kind::Int | Kind::Long) => Kind::Long,
                _ => Kind::Real,
            }),
            _ => Err(refused()),
        },
    }
}

impl Bound {
    /// The value for one row.
    pub(crate) fn value<'r>(&'r self, row: &'r [Datum]) -> Cow<'r, Datum> {
        match &self.node {
            Node::Literal(value) => Cow::Borrowed(value),
            Node::Column(at) => row.get(*at).map_or(Cow::Owned(Datum::Null), Cow::Borrowed),
            Node::Call(function, arguments) => {
                let values: Vec<_> = arguments.iter().map(|a| a.value(row)).collect();
                Cow::Owned(function.apply(&values, self.kind))
            }
            Node::Negate(inner) => Cow::Owned(match inner.value(row).as_ref() {
                Datum::Long(value) => Datum::Long(value.wrapping_neg()),
                Datum::Real(value) => Datum::Real(-value),
                Datum::Span(value) => Datum::Span(-value),
                _ => Datum::Null,
            }),
            Node::Binary(operator, left, right) => {
                let left = left.value(row);
                Cow::Owned(match operator {
                    Operator::And if *left == Datum::Bool(false) => Datum::Bool(false),
                    Operator::Or if *left == Datum::Bool(true) => Datum::Bool(true),
                    operator => combine(*operator, &left, &right.value(row)),
                })
            }
            Node::Between(value, low, high, negated) => {
                let value = value.value(row);
                let low = low.value(row);
                let mut high = high.value(row);
                // `between (start .. 5m)` means up to five minutes after the start.
                if let (Datum::Time(low), Datum::Span(span)) = (low.as_ref(), high.as_ref()) {
                    high = Cow::Owned(Datum::Time(low.saturating_add(*span)));
                }
                let inside = (value.compare(&low).map(Ordering::is_ge))
                    .zip(value.compare(&high).map(Ordering::is_le))
                    .map(|(above, below)| above && below);
                Cow::Owned(inside.map_or(Datum::Null, |inside| Datum::Bool(inside != *negated)))
            }
            Node::In(value, list, case, negated) => {
                let value = value.value(row);
                let found = list.iter().any(|entry| {
                    let entry = entry.value(row);
                    match case {
                        true => value.compare(&entry) == Some(Ordering::Equal),
                        false => same_fold(&value, &entry),
                    }
                });
                Cow::Owned(Datum::Bool(found != *negated))
            }
            Node::Member(value, key) => {
                let (value, key) = (value.value(row), key.value(row));
                let Datum::Dynamic(value) = value.as_ref() else {
                    return Cow::Owned(Datum::Null);
                };
                let found = match key.as_ref() {
                    Datum::Text(name) => value.get(name),
                    Datum::Long(at) => usize::try_from(*at).ok().and_then(|at| value.get(at)),
                    _ => None,
                };
                Cow::Owned(match found {
                    None | Some(Value::Null) => Datum::Null,
                    Some(found) => Datum::Dynamic(found.clone()),
                })
            }
        }
    }

    /// Whether the value for one row is true.
    pub(crate) fn holds(&self, row: &[Datum]) -> bool {
        match self.value(row).as_ref() {
            Datum::Bool(value) | Datum::Dynamic(Value::Bool(value)) => *value,
            _ => false,
        }
    }
}

fn same_fold(left: &Datum, right: &Datum) -> bool {
    left.to_string().to_lowercase() == right.to_string().to_lowercase()
}

fn combine(operator: Operator, left: &Datum, right: &Datum) -> Datum {
    let ordered = |test: fn(Ordering) -> bool| {
        left.compare(right)
            .map_or(Datum::Null, |order| Datum::Bool(test(order)))
    };
    match operator {
        Operator::And | Operator::Or => match (left, right, operator) {
            (Datum::Bool(a), Datum::Bool(b), Operator::And) => Datum::Bool(*a && *b),
            (Datum::Bool(a), Datum::Bool(b), _) => Datum::Bool(*a || *b),
            (_, Datum::Bool(false), Operator::And) => Datum::Bool(false),
            (_, Datum::Bool(true), Operator::Or) => Datum::Bool(true),
            _ => Datum::Null,
        },
        Operator::Equal => ordered(Ordering::is_eq),
        Operator::NotEqual => ordered(Ordering::is_ne),
        Operator::Less => ordered(Ordering::is_lt),
        Operator::LessEqual => ordered(Ordering::is_le),
        Operator::Greater => ordered(Ordering::is_gt),
        Operator::GreaterEqual => ordered(Ordering::is_ge),
        Operator::EqualFold => Datum::Bool(same_fold(left, right)),
        Operator::NotEqualFold => Datum::Bool(!same_fold(left, right)),
        Operator::Text(test, negated) => {
            let text = left.to_string().to_lowercase();
            let wanted = right.to_string().to_lowercase();
            let found = match test {
                TextTest::Has => contains_word(&text, &wanted),
                TextTest::Contains => text.contains(&wanted),
                TextTest::StartsWith => text.starts_with(&wanted),
                TextTest::EndsWith => text.ends_with(&wanted),
            };
            Datum::Bool(found != negated)
        }
        Operator::Add
        | Operator::Subtract
        | Operator::Multiply
        | Operator::Divide
        | Operator::Modulo => calculate(operator, left, right),
    }
}

fn calculate(operator: Operator, left: &Datum, right: &Datum) -> Datum {
    match (left, right) {
        (Datum::Long(a), Datum::Long(b)) => {
            let result = match operator {
                Operator::Add => a.checked_add(*b),
                Operator::Subtract => a.checked_sub(*b),
                Operator::Multiply => a.checked_mul(*b),
                Operator::Divide => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            result.map_or(Datum::Null, Datum::Long)
        }
        (Datum::Time(a), Datum::Span(b)) if operator == Operator::Add => Datum::Time(a + b),
        (Datum::Time(a), Datum::Span(b)) => Datum::Time(a - b),
        (Datum::Span(a), Datum::Time(b)) => Datum::Time(a + b),
        (Datum::Time(a), Datum::Time(b)) => Datum::Span(a - b),
        (Datum::Span(a), Datum::Span(b)) => match operator {
            Operator::Add => Datum::Span(a + b),
            Operator::Subtract => Datum::Span(a - b),
            _ => Datum::Real(*a as f64 / *b as f64),
        },
        (Datum::Span(a), b) => match b.as_f64() {
            Some(b) if operator == Operator::Multiply => Datum::Span((*a as f64 * b) as i64),
            Some(b) => Datum::Span((*a as f64 / b) as i64),
            None => Datum::Null,
        },
        (a, b) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => Datum::Real(match operator {
                Operator::Add => a + b,
                Operator::Subtract => a - b,
                Operator::Multiply => a * b,
                Operator::Divide => a / b,
                _ => a % b,
            }),
            _ => Datum::Null,
        },
    }
}
