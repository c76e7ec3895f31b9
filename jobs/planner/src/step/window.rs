//! Windows: the step itself, one before it that computes what aggregates read, and what becomes of
//! its results and of late rows.

use std::sync::Arc;

use thalweg_definition::{LateThen, Spanned, Step, Window};
use thalweg_engine::Edge;
use thalweg_expr::{AggregateFunction, ColumnSource, Compiled, ExpressionError, TransformFactory};
use thalweg_stream::{Column, OperatorFactory as _, StreamSchema};
use thalweg_window::{AggregateSpec, Function, LateFate, LateSpec, TumblingFactory, TumblingSpec};

use super::{computed, ms};
use crate::{Planning, Stream};

/// The columns of rows, and where each comes from.
type Columns = Vec<(Column, ColumnSource)>;

impl Planning<'_> {
    pub(super) fn window(
        &mut self,
        step: &Step,
        input: Vec<Edge>,
        schema: StreamSchema,
        window: &Window,
    ) {
        let by: Vec<usize> = (window.by.iter())
            .filter_map(|column| self.column(column, &schema))
            .collect();
        let Some((aggregates, columns)) = self.aggregates(&window.aggregate, &schema) else {
            return;
        };
        if by.len() < window.by.len() {
            return;
        }
        let (input, rows) = self.arguments(step, input, &schema, columns);
        let factory = match TumblingFactory::new(rows.clone(), spec(window, by, aggregates)) {
            Ok(factory) => factory,
            Err(error) => return self.error(step.name.span, error.to_string()),
        };
        let result = factory.outputs().into_iter().next();
        let node = self.place(step, "", vec![input], Arc::new(factory));
        if window.late_then == LateThen::Output {
            self.late(step, node, schema, rows);
        }
        if let (Some(having), Some((_, result))) = (&window.having, result) {
            let results = vec![Edge { node, port: 0 }];
            self.filter(step, "having", results, &result, having);
        }
    }

    /// The aggregates, and the columns of the rows that they read: those of `schema`, and behind them
    /// arguments and filters that are more than a column. Nothing if one is wrong, which is told.
    fn aggregates(
        &mut self,
        calls: &[(Spanned<String>, Spanned<String>)],
        schema: &StreamSchema,
    ) -> Option<(Vec<AggregateSpec>, Columns)> {
        let mut columns: Columns = (schema.columns.iter().enumerate())
            .map(|(at, column)| (column.clone(), ColumnSource::Input(at)))
            .collect();
        let mut aggregates = Vec::new();
        for (name, text) in calls {
            if self.is_enough() {
                return None;
            }
            match self.aggregate(name, &text.value, schema, &mut columns) {
                Ok(aggregate) => aggregates.push(aggregate),
                Err(error) => self.wrong(text, &error),
            }
        }
        (aggregates.len() == calls.len()).then_some((aggregates, columns))
    }

    /// One of them; what it reads is added to `columns` unless it is a column of `schema`.
    fn aggregate(
        &self,
        name: &Spanned<String>,
        text: &str,
        schema: &StreamSchema,
        columns: &mut Columns,
    ) -> Result<AggregateSpec, ExpressionError> {
        let call = self.compiler.aggregate(text, schema)?;
        let mut place = |compiled: Compiled| -> Result<usize, ExpressionError> {
            if let Some(at) = compiled.as_column().and_then(|name| schema.column(name)) {
                return Ok(at);
            }
            let name = computed_name(compiled.fingerprint()?, columns);
            columns.push(computed(&name, schema, compiled));
            Ok(columns.len() - 1)
        };
        Ok(AggregateSpec {
            name: Arc::from(name.value.as_str()),
            function: function(call.function),
            argument: call.argument.map(&mut place).transpose()?,
            filter: call.filter.map(&mut place).transpose()?,
        })
    }

    /// Computes in a step before what aggregates read and is no column of `schema`, if there is such:
    /// the rows that go into the window, and their schema.
    fn arguments(
        &mut self,
        step: &Step,
        input: Vec<Edge>,
        schema: &StreamSchema,
        columns: Columns,
    ) -> (Vec<Edge>, StreamSchema) {
        if columns.len() == schema.columns.len() {
            return (input, schema.clone());
        }
        let (columns, sources) = columns.into_iter().unzip();
        let rows = StreamSchema {
            columns,
            ..schema.clone()
        };
        let arguments = TransformFactory::project(schema.clone(), rows.clone(), sources);
        let node = self.place(step, "arguments", vec![input], Arc::new(arguments));
        (vec![Edge { node, port: 0 }], rows)
    }

    /// The stream of the window's late `rows`, with the columns of `schema`: as they came, without
    /// what was computed for the window at `node`.
    fn late(&mut self, step: &Step, node: usize, schema: StreamSchema, rows: StreamSchema) {
        let name = &step.name.value;
        let mut edge = Edge { node, port: 1 };
        if rows.columns.len() > schema.columns.len() {
            let all = (0..schema.columns.len()).map(ColumnSource::Input).collect();
            let clean = TransformFactory::project(rows, schema.clone(), all);
            // The step is the window, not what is placed after it.
            let window = self.streams.get(name).cloned();
            let node = self.place(step, "late", vec![vec![edge]], Arc::new(clean));
            (self.streams).extend(window.map(|window| (name.clone(), window)));
            edge = Edge { node, port: 0 };
        }
        (self.streams).insert(format!("{name}.late"), Stream { edge, schema });
    }
}

/// The name of a computed column, which says what it is, as the state of the window is matched by
/// it when the definition changes: wherever the aggregate stands, and of no other expression.
fn computed_name(fingerprint: u64, columns: &[(Column, ColumnSource)]) -> String {
    let name = format!("_{fingerprint:016x}");
    let earlier = (columns.iter())
        .filter(|(column, _)| column.name.starts_with(&*name))
        .count();
    match earlier {
        0 => name,
        again => format!("{name}_{again}"),
    }
}

fn spec(window: &Window, by: Vec<usize>, aggregates: Vec<AggregateSpec>) -> TumblingSpec {
    TumblingSpec {
        size_ms: ms(window.size_ms),
        offset_ms: window.offset_ms,
        by,
        aggregates,
        late: LateSpec {
            allowed_ms: ms(window.late_allowed_ms),
            then: match window.late_then {
                LateThen::Drop => LateFate::Drop,
                LateThen::DeadLetter => LateFate::DeadLetter,
                LateThen::Output => LateFate::Output,
            },
        },
    }
}

fn function(function: AggregateFunction) -> Function {
    match function {
        AggregateFunction::Count => Function::Count,
        AggregateFunction::CountDistinct => Function::CountDistinct,
        AggregateFunction::Sum => Function::Sum,
        AggregateFunction::Avg => Function::Avg,
        AggregateFunction::Min => Function::Min,
        AggregateFunction::Max => Function::Max,
    }
}
