//! Runs a query over rows.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::kql::QueryError;
use crate::kql::bind::{Column, bind};
use crate::kql::summarize::summarize;
use crate::kql::syntax::{Expression, Key, Named, Source, Step};
use crate::value::{Datum, Kind};

/// A row; shared, so that operators that keep rows whole copy nothing.
pub(crate) type Row = Arc<[Datum]>;

/// Rows with named columns. Columns whose names begin with `$` are not shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tabular {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

impl Tabular {
    /// Rows with columns of these names and types.
    pub(crate) fn new(columns: &[(&str, Kind)], rows: Vec<Vec<Datum>>) -> Self {
        let columns = columns.iter().map(|(name, kind)| Column {
            name: (*name).to_owned(),
            kind: *kind,
        });
        Self {
            columns: columns.collect(),
            rows: rows.into_iter().map(Arc::from).collect(),
        }
    }
}

/// Runs `steps` over what `source` gives, at time `now` in ticks.
pub(crate) fn run(
    source: &Source,
    given: Tabular,
    steps: &[Step],
    now: i64,
) -> Result<Tabular, QueryError> {
    let mut rows = match source {
        Source::Print(list) => {
            let one = Tabular {
                columns: Vec::new(),
                rows: vec![Arc::from(Vec::new())],
            };
            project(&one, list, now, "print_")?
        }
        Source::Table(_) | Source::Given => given,
    };
    for step in steps {
        rows = apply(rows, step, now)?;
    }
    Ok(rows)
}

fn apply(mut input: Tabular, step: &Step, now: i64) -> Result<Tabular, QueryError> {
    match step {
        Step::Where(predicate) => {
            let predicate = bind(predicate, &input.columns, now)?;
            if !matches!(predicate.kind, Kind::Bool | Kind::Dynamic) {
                return Err(QueryError::semantic(
                    "'where' operator: the expression is no condition",
                ));
            }
            input.rows.retain(|row| predicate.holds(row));
            Ok(input)
        }
        Step::Project(list) => project(&input, list, now, "Column"),
        Step::ProjectAway(names) => {
            if let Some(unknown) = names
                .iter()
                .find(|name| !input.columns.iter().any(|column| column.name == **name))
            {
                return Err(QueryError::semantic(format!(
                    "'project-away' operator: Failed to resolve column named '{unknown}'"
                )));
            }
            let kept: Vec<usize> = (input.columns.iter().enumerate())
                .filter(|(_, column)| !names.contains(&column.name))
                .map(|(at, _)| at)
                .collect();
            let columns = kept.iter().filter_map(|at| input.columns.get(*at).cloned());
            let rows = input
                .rows
                .iter()
                .map(|row| kept.iter().filter_map(|at| row.get(*at).cloned()).collect());
            Ok(Tabular {
                columns: columns.collect(),
                rows: rows.collect(),
            })
        }
        Step::Extend(list) => extend(input, list, now),
        Step::Summarize { aggregates, by } => summarize(&input, aggregates, by, now),
        Step::Count => {
            let count = i64::try_from(input.rows.len()).unwrap_or(i64::MAX);
            Ok(Tabular::new(
                &[("Count", Kind::Long)],
                vec![vec![Datum::Long(count)]],
            ))
        }
        Step::Take(count) => {
            input.rows.truncate(*count);
            Ok(input)
        }
        Step::Order(keys) => order(input, keys, now),
        Step::Top(count, keys) => {
            let mut ordered = order(input, keys, now)?;
            ordered.rows.truncate(*count);
            Ok(ordered)
        }
    }
}

fn project(input: &Tabular, list: &[Named], now: i64, prefix: &str) -> Result<Tabular, QueryError> {
    let mut columns = Vec::new();
    let mut bound = Vec::new();
    for (at, named) in list.iter().enumerate() {
        let expression = bind(&named.expression, &input.columns, now)?;
        let name = named
            .name
            .clone()
            .unwrap_or_else(|| match (&named.expression, prefix) {
                (_, "print_") => format!("print_{at}"),
                (expression, _) => default_name(expression, at),
            });
        columns.push(Column {
            name,
            kind: expression.kind,
        });
        bound.push(expression);
    }
    // What is known of a row's extent stays with it.
    for column in input.columns.iter().filter(|c| c.name.starts_with('$')) {
        bound.push(bind(
            &Expression::Column(column.name.clone()),
            &input.columns,
            now,
        )?);
        columns.push(column.clone());
    }
    let rows = input.rows.iter().map(|row| {
        bound
            .iter()
            .map(|expression| expression.value(row).into_owned())
            .collect()
    });
    Ok(Tabular {
        columns,
        rows: rows.collect(),
    })
}

/// Each expression may use the columns before it; one of a known name takes its place.
fn extend(mut input: Tabular, list: &[Named], now: i64) -> Result<Tabular, QueryError> {
    for (at, named) in list.iter().enumerate() {
        let bound = bind(&named.expression, &input.columns, now)?;
        let name = (named.name.clone()).unwrap_or_else(|| default_name(&named.expression, at));
        let column = Column {
            name,
            kind: bound.kind,
        };
        let place = input.columns.iter().position(|c| c.name == column.name);
        for row in &mut input.rows {
            let mut values = row.to_vec();
            let value = bound.value(row).into_owned();
            match place.and_then(|place| values.get_mut(place)) {
                Some(old) => *old = value,
                None => values.push(value),
            }
            *row = Arc::from(values);
        }
        match place.and_then(|place| input.columns.get_mut(place)) {
            Some(old) => *old = column,
            None => input.columns.push(column),
        }
    }
    Ok(input)
}

fn order(mut input: Tabular, keys: &[Key], now: i64) -> Result<Tabular, QueryError> {
    let keys = keys
        .iter()
        .map(|key| Ok((bind(&key.expression, &input.columns, now)?, key)))
        .collect::<Result<Vec<_>, QueryError>>()?;
    input.rows.sort_by(|a, b| {
        for (bound, key) in &keys {
            let (left, right) = (bound.value(a), bound.value(b));
            let order = match (left.is_null(), right.is_null()) {
                (true, true) => Ordering::Equal,
                (true, false) if key.nulls_first => Ordering::Less,
                (true, false) => Ordering::Greater,
                (false, true) if key.nulls_first => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) if key.descending => right.total_order(&left),
                (false, false) => left.total_order(&right),
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    });
    Ok(input)
}

/// The name of a column that was given none.
pub(crate) fn default_name(expression: &Expression, at: usize) -> String {
    match expression {
        Expression::Column(name) => name.clone(),
        Expression::Member(value, key) => match (value.as_ref(), key.as_ref()) {
            (Expression::Column(column), Expression::Literal(Datum::Text(key), _)) => {
                format!("{column}_{key}")
            }
            _ => format!("Column{}", at + 1),
        },
        Expression::Call(name, arguments) => match arguments.first() {
            Some(Expression::Column(column)) if matches!(name.as_str(), "bin" | "floor") => {
                column.clone()
            }
            _ => format!("Column{}", at + 1),
        },
        _ => format!("Column{}", at + 1),
    }
}
