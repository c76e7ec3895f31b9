//! `summarize`: rows by key, and one row of aggregates for each.
//!
//! An aggregate may stand inside an expression (`round(avg(x), 2)`): each becomes a column of an
//! intermediate row, and the expression is evaluated over that.

use std::collections::HashMap;
use std::sync::Arc;

use crate::kql::QueryError;
use crate::kql::aggregate::Aggregation;
use crate::kql::bind::{Bound, Column, bind};
use crate::kql::run::{Row, Tabular, default_name};
use crate::kql::syntax::{Expression, Named};
use crate::value::{Datum, Kind};

/// One aggregate, ready to be computed.
struct Computed {
    aggregation: Aggregation,
    arguments: Vec<Bound>,
    kind: Kind,
}

/// Summarizes `input`.
pub(crate) fn summarize(
    input: &Tabular,
    aggregates: &[Named],
    by: &[Named],
    now: i64,
) -> Result<Tabular, QueryError> {
    let mut columns = Vec::new();
    let mut keys = Vec::new();
    for (at, named) in by.iter().enumerate() {
        let key = bind(&named.expression, &input.columns, now)?;
        let name = key_name(named, at);
        columns.push(Column {
            name,
            kind: key.kind,
        });
        keys.push(key);
    }
    // The intermediate row: keys, then aggregates.
    let mut inner = columns.clone();
    let mut computed = Vec::new();
    let mut results = Vec::new();
    for named in expand(aggregates, input) {
        let name = named
            .name
            .clone()
            .unwrap_or_else(|| aggregate_name(&named.expression));
        let outer = extract(&named.expression, input, &mut inner, &mut computed, now)?;
        results.push((name, outer));
    }
    let mut outer = Vec::new();
    for (name, expression) in results {
        let bound = bind(&expression, &inner, now)?;
        columns.push(Column {
            name: unique(&columns, name),
            kind: bound.kind,
        });
        outer.push(bound);
    }
    let mut rows = Vec::new();
    for (key, members) in groups(&input.rows, &keys) {
        let members: Vec<&[Datum]> = members.iter().map(|row| &row[..]).collect();
        let mut row = key;
        for one in &computed {
            row.push(one.aggregation.apply(&one.arguments, one.kind, &members));
        }
        let mut result: Vec<Datum> = row.iter().take(keys.len()).cloned().collect();
        result.extend(outer.iter().map(|bound| bound.value(&row).into_owned()));
        rows.push(Arc::from(result));
    }
    Ok(Tabular { columns, rows })
}

/// Rows by key, in order of first appearance. Without keys there is one group, even of no rows.
fn groups<'r>(rows: &'r [Row], keys: &[Bound]) -> Vec<(Vec<Datum>, Vec<&'r Row>)> {
    if keys.is_empty() {
        return vec![(Vec::new(), rows.iter().collect())];
    }
    let mut positions: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<(Vec<Datum>, Vec<&Row>)> = Vec::new();
    for row in rows {
        let key: Vec<Datum> = keys.iter().map(|key| key.value(row).into_owned()).collect();
        let at = *positions.entry(format!("{key:?}")).or_insert(groups.len());
        match groups.get_mut(at) {
            Some((_, members)) => members.push(row),
            None => groups.push((key, vec![row])),
        }
    }
    groups
}

/// `arg_max(x, *)` is a column for every column.
fn expand(aggregates: &[Named], input: &Tabular) -> Vec<Named> {
    let mut expanded = Vec::new();
    for named in aggregates {
        match &named.expression {
            Expression::Call(name, arguments)
                if matches!(name.as_str(), "arg_max" | "arg_min")
                    && matches!(arguments.as_slice(), [_, ..]) =>
            {
                let Some(by) = arguments.first() else {
                    continue;
                };
                let wanted: Vec<Expression> = match arguments.get(1..) {
                    Some([Expression::Star]) => input
                        .columns
                        .iter()
                        .filter(|column| !column.name.starts_with('$'))
                        .map(|column| Expression::Column(column.name.clone()))
                        .filter(|column| column != by)
                        .collect(),
                    rest => rest.unwrap_or_default().to_vec(),
                };
                for expression in std::iter::once(by.clone()).chain(wanted) {
                    expanded.push(Named {
                        name: Some(default_name(&expression, expanded.len())),
                        expression: Expression::Call(name.clone(), vec![by.clone(), expression]),
                    });
                }
            }
            _ => expanded.push(named.clone()),
        }
    }
    expanded
}

/// Replaces each aggregate in `expression` by a column of the intermediate row.
fn extract(
    expression: &Expression,
    input: &Tabular,
    inner: &mut Vec<Column>,
    computed: &mut Vec<Computed>,
    now: i64,
) -> Result<Expression, QueryError> {
    let mut recurse =
        |expression: &Expression| extract(expression, input, inner, computed, now).map(Box::new);
    Ok(match expression {
        Expression::Call(name, arguments) => {
            let Some((aggregation, arity, _)) = Aggregation::find(name) else {
                let arguments: Result<Vec<_>, _> =
                    arguments.iter().map(|a| recurse(a).map(|a| *a)).collect();
                return Ok(Expression::Call(name.clone(), arguments?));
            };
            if arguments.len() < arity {
                return Err(QueryError::semantic(format!(
                    "{name}(): function expects {arity} argument(s), {} given",
                    arguments.len()
                )));
            }
            let arguments = (arguments.iter().take(arity))
                .map(|argument| bind(argument, &input.columns, now))
                .collect::<Result<Vec<_>, _>>()?;
            let decisive = match aggregation {
                Aggregation::ArgMin | Aggregation::ArgMax => arguments.get(1),
                _ => arguments.first(),
            };
            let kind = aggregation.kind(decisive.map(|argument| argument.kind))?;
            let column = format!("$aggregate{}", computed.len());
            inner.push(Column {
                name: column.clone(),
                kind,
            });
            computed.push(Computed {
                aggregation,
                arguments,
                kind,
            });
            Expression::Column(column)
        }
        Expression::Negate(inner) => Expression::Negate(recurse(inner)?),
        Expression::Binary(operator, left, right) => {
            Expression::Binary(*operator, recurse(left)?, recurse(right)?)
        }
        Expression::Member(value, key) => Expression::Member(recurse(value)?, recurse(key)?),
        Expression::Literal(..)
        | Expression::Column(_)
        | Expression::Between(..)
        | Expression::In(..)
        | Expression::Star => expression.clone(),
    })
}

/// `bin(ts, 1m)` is called `ts`.
fn key_name(named: &Named, at: usize) -> String {
    match (&named.name, &named.expression) {
        (Some(name), _) => name.clone(),
        (None, Expression::Call(name, arguments)) if matches!(name.as_str(), "bin" | "floor") => {
            match arguments.first() {
                Some(Expression::Column(column)) => column.clone(),
                _ => format!("Column{}", at + 1),
            }
        }
        (None, expression) => default_name(expression, at),
    }
}

fn aggregate_name(expression: &Expression) -> String {
    match expression {
        Expression::Call(name, arguments) => {
            let prefix = Aggregation::find(name).map_or("", |(_, _, prefix)| prefix);
            match arguments.first() {
                Some(Expression::Column(column)) => format!("{prefix}{column}"),
                _ => prefix.to_owned(),
            }
        }
        _ => "Column1".to_owned(),
    }
}

fn unique(columns: &[Column], name: String) -> String {
    let taken = |name: &str| columns.iter().any(|column| column.name == name);
    if !taken(&name) {
        return name;
    }
    (1..)
        .map(|number| format!("{name}{number}"))
        .find(|name| !taken(name))
        .unwrap_or(name)
}
