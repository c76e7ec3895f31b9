//! Steps: operators and the streams they make.

mod window;

use std::sync::Arc;

use thalweg_dedup::{DedupFactory, DedupSpec};
use thalweg_definition::{Dedup, Enrich, Missing, OnError, Operation, Spanned, Step};
use thalweg_engine::{Edge, Node, OnError as Fate, StepNode};
use thalweg_enrich::{AsOf, EnrichFactory, EnrichSpec, Missing as Absent};
use thalweg_expr::{ColumnSource, Compiled, TransformFactory};
use thalweg_stream::expression::ExpressionFactory;
use thalweg_stream::{Column, OperatorFactory, StreamSchema};

use crate::{Planning, Stream};

fn ms(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

impl Planning<'_> {
    pub(crate) fn step(&mut self, step: &Step) {
        let Some((input, schema)) = self.united(&step.from) else {
            return;
        };
        match &step.operation {
            Operation::Union => {
                let all = (0..schema.columns.len()).map(ColumnSource::Input).collect();
                let factory = TransformFactory::project(schema.clone(), schema, all);
                self.place(step, "", vec![input], Arc::new(factory));
            }
            Operation::Filter(condition) => self.filter(step, "", input, &schema, condition),
            Operation::Select(assignments) => {
                self.project(step, input, &schema, Vec::new(), assignments)
            }
            Operation::Set(assignments) => {
                let kept = (0..schema.columns.len()).collect();
                self.project(step, input, &schema, kept, assignments);
            }
            Operation::Drop(columns) => {
                let dropped: Vec<usize> = columns
                    .iter()
                    .filter_map(|column| self.column(column, &schema))
                    .collect();
                let kept = (0..schema.columns.len())
                    .filter(|at| !dropped.contains(at))
                    .collect();
                self.project(step, input, &schema, kept, &[]);
            }
            Operation::Rename(pairs) => self.rename(step, input, &schema, pairs),
            Operation::Route(outputs) => self.route(step, input, &schema, outputs),
            Operation::Dedup(dedup) => self.dedup(step, input, &schema, dedup),
            Operation::Window(window) => self.window(step, input, schema, window),
            Operation::Enrich(enrich) => self.enrich(step, input, &schema, enrich),
        }
    }

    /// Adds a node for `step`; `part` tells several nodes of one step apart. The last one placed
    /// under the step's own name is the step.
    fn place(
        &mut self,
        step: &Step,
        part: &str,
        inputs: Vec<Vec<Edge>>,
        factory: Arc<dyn OperatorFactory>,
    ) -> usize {
        let node = self.nodes.len();
        let schema = factory
            .outputs()
            .into_iter()
            .next()
            .map(|(_, schema)| schema);
        if let Some(schema) = schema {
            let stream = Stream {
                edge: Edge { node, port: 0 },
                schema,
            };
            self.streams.insert(step.name.value.clone(), stream);
        }
        let named = |base: &str| {
            if part.is_empty() {
                base.to_owned()
            } else {
                format!("{base}.{part}")
            }
        };
        self.nodes.push(Node::Step(StepNode {
            name: Arc::from(named(&step.name.value)),
            id: Arc::from(named(&step.id)),
            factory,
            inputs,
            on_error: match step.on_error {
                OnError::DeadLetter => Fate::DeadLetter,
                OnError::Skip => Fate::Skip,
                OnError::Fail => Fate::Fail,
            },
        }));
        node
    }

    fn condition(
        &mut self,
        text: &Spanned<String>,
        schema: &StreamSchema,
    ) -> Option<Arc<dyn ExpressionFactory>> {
        match self.compiler.condition(&text.value, schema) {
            Ok(compiled) => Some(Arc::new(compiled)),
            Err(error) => {
                self.wrong(text, &error);
                None
            }
        }
    }

    fn filter(
        &mut self,
        step: &Step,
        part: &str,
        input: Vec<Edge>,
        schema: &StreamSchema,
        condition: &Spanned<String>,
    ) {
        let Some(condition) = self.condition(condition, schema) else {
            return;
        };
        self.place(
            step,
            part,
            vec![input],
            Arc::new(TransformFactory::filter(schema, condition)),
        );
    }

    fn project(
        &mut self,
        step: &Step,
        input: Vec<Edge>,
        schema: &StreamSchema,
        kept: Vec<usize>,
        assignments: &[(Spanned<String>, Spanned<String>)],
    ) {
        let mut columns: Vec<(Column, ColumnSource)> = (kept.into_iter())
            .map(|at| (schema.columns[at].clone(), ColumnSource::Input(at)))
            .collect();
        let mut whole = true;
        for (name, text) in assignments {
            if self.is_enough() {
                return;
            }
            let compiled = self.compiler.compile(&text.value, schema);
            let compiled = compiled.map_err(|error| self.wrong(text, &error));
            let (false, Ok(compiled)) = (self.is_reserved(name), compiled) else {
                whole = false;
                continue;
            };
            let made = computed(&name.value, schema, compiled);
            match columns
                .iter_mut()
                .find(|(column, _)| *column.name == *name.value)
            {
                Some(there) => *there = made,
                None => columns.push(made),
            }
        }
        if whole {
            self.place_projection(step, input, schema, columns);
        }
    }

    /// Whether a column cannot be called so, as the system calls one so; told if it is.
    fn is_reserved(&mut self, name: &Spanned<String>) -> bool {
        let reserved = thalweg_stream::schema::is_system(&name.value);
        if reserved {
            self.error(name.span, format!("`{}` is a reserved name", name.value));
        }
        reserved
    }

    fn place_projection(
        &mut self,
        step: &Step,
        input: Vec<Edge>,
        schema: &StreamSchema,
        columns: Vec<(Column, ColumnSource)>,
    ) {
        if matches!(schema.kind, thalweg_stream::StreamKind::Changes { .. }) {
            return self.error(
                step.name.span,
                "columns of a stream of changes cannot be changed yet: its key would be lost",
            );
        }
        let (columns, sources) = columns.into_iter().unzip();
        let output = StreamSchema {
            columns,
            ..schema.clone()
        };
        let factory = TransformFactory::project(schema.clone(), output, sources);
        self.place(step, "", vec![input], Arc::new(factory));
    }

    fn rename(
        &mut self,
        step: &Step,
        input: Vec<Edge>,
        schema: &StreamSchema,
        pairs: &[(Spanned<String>, Spanned<String>)],
    ) {
        let mut columns: Vec<(Column, ColumnSource)> = (schema.columns.iter().enumerate())
            .map(|(at, column)| (column.clone(), ColumnSource::Input(at)))
            .collect();
        let mut whole = true;
        for (old, new) in pairs {
            if self.is_enough() {
                return;
            }
            let (false, Some(at)) = (self.is_reserved(new), self.column(old, schema)) else {
                whole = false;
                continue;
            };
            columns[at].0.name = Arc::from(new.value.as_str());
        }
        if !whole {
            return;
        }
        for (old, new) in pairs {
            if columns
                .iter()
                .filter(|(column, _)| *column.name == *new.value)
                .count()
                > 1
            {
                self.error(
                    old.span,
                    format!("there is a column `{}` already", new.value),
                );
            }
        }
        self.place_projection(step, input, schema, columns);
    }

    fn route(
        &mut self,
        step: &Step,
        input: Vec<Edge>,
        schema: &StreamSchema,
        outputs: &[(Spanned<String>, Option<Spanned<String>>)],
    ) {
        let mut branches = Vec::new();
        for (_, text) in outputs {
            if self.is_enough() {
                return;
            }
            let condition = text.as_ref().map(|text| self.condition(text, schema));
            if !matches!(condition, Some(None)) {
                branches.push(("", condition.flatten()));
            }
        }
        if branches.len() < outputs.len() {
            return;
        }
        let factory = Arc::new(TransformFactory::route(schema, branches));
        let node = self.place(step, "", vec![input], factory);
        self.streams.remove(&step.name.value);
        for (port, (name, _)) in outputs.iter().enumerate() {
            let stream = Stream {
                edge: Edge { node, port },
                schema: schema.clone(),
            };
            self.streams
                .insert(format!("{}.{}", step.name.value, name.value), stream);
        }
    }

    fn dedup(&mut self, step: &Step, input: Vec<Edge>, schema: &StreamSchema, dedup: &Dedup) {
        let by: Vec<usize> = dedup
            .by
            .iter()
            .filter_map(|c| self.column(c, schema))
            .collect();
        if by.len() < dedup.by.len() {
            return;
        }
        let spec = DedupSpec {
            by,
            within_ms: ms(dedup.within_ms),
            same_time: dedup.same_time,
        };
        match DedupFactory::new(schema.clone(), spec) {
            Ok(factory) => drop(self.place(step, "", vec![input], Arc::new(factory))),
            Err(error) => self.error(step.name.span, error.to_string()),
        }
    }

    fn enrich(&mut self, step: &Step, input: Vec<Edge>, schema: &StreamSchema, enrich: &Enrich) {
        let Some(table) = self.tables.get(&enrich.with.value).cloned() else {
            let tables = self.definition.tables.iter();
            let names = tables.map(|table| &table.source.name.value);
            let mut names = names.chain(&self.definition.damaged);
            if names.any(|name| *name == enrich.with.value) {
                // The table is wrong itself, and has told its error.
                return;
            }
            let found = thalweg_definition::Diagnostic::error(
                enrich.with.span,
                format!("there is no table `{}`", enrich.with.value),
            );
            let found = found.nearest(&enrich.with.value, self.tables.keys().map(String::as_str));
            self.found.push(found);
            return;
        };
        let key = self
            .definition
            .tables
            .iter()
            .find(|t| t.source.name.value == enrich.with.value);
        let key = key.map(|table| table.key.clone()).unwrap_or_default();
        let table_key = key
            .iter()
            .filter_map(|c| self.column(c, &table.schema))
            .collect();
        let on = (enrich.on.iter())
            .filter_map(|(left, right)| {
                Some((
                    self.column(left, schema)?,
                    self.column(right, &table.schema)?,
                ))
            })
            .collect();
        let take = (enrich.take.iter())
            .filter_map(|(new, old)| {
                Some((
                    self.column(old, &table.schema)?,
                    Arc::from(new.value.as_str()),
                ))
            })
            .collect();
        let spec = EnrichSpec {
            table: enrich.with.value.as_str().into(),
            on,
            table_key,
            take,
            missing: match enrich.missing {
                Missing::Keep => Absent::Keep,
                Missing::Drop => Absent::Drop,
                Missing::DeadLetter => Absent::DeadLetter,
            },
            as_of: enrich.as_of.map(|as_of| AsOf {
                wait_ms: (!self.comes_to_an_end(table.edge.node)).then(|| ms(as_of.wait_ms)),
                late_ms: ms(self.late_behind(&step.name.value)),
            }),
        };
        let factory = match EnrichFactory::new(schema.clone(), table.schema, spec) {
            Ok(factory) => factory,
            Err(error) => return self.error(step.name.span, error.to_string()),
        };
        if enrich.as_of.is_none() {
            self.load_first(&input, table.edge.node);
        }
        self.place(step, "", vec![input, vec![table.edge]], Arc::new(factory));
    }

    /// How late, in milliseconds, the windows behind `step` still take its rows.
    fn late_behind(&self, step: &str) -> u64 {
        let steps = &self.definition.steps;
        let (mut open, mut seen) = (vec![step], vec![false; steps.len()]);
        let mut late_ms = 0;
        while let Some(name) = open.pop() {
            let takes = |from: &Spanned<String>| from.value.split('.').next() == Some(name);
            for (at, step) in steps.iter().enumerate() {
                if !seen[at] && step.from.iter().any(takes) {
                    seen[at] = true;
                    open.push(&step.name.value);
                    if let Operation::Window(window) = &step.operation {
                        late_ms = late_ms.max(window.late_allowed_ms);
                    }
                }
            }
        }
        late_ms
    }

    /// Rows can wait for all of such a table: by how far it is read before them depends nothing then.
    fn comes_to_an_end(&self, table: usize) -> bool {
        match self.nodes.get(table) {
            Some(Node::Source(source)) => source.source.bounded(),
            Some(Node::Step(_) | Node::Sink(_)) | None => false,
        }
    }

    /// The sources of `rows` start when the table is loaded.
    fn load_first(&mut self, rows: &[Edge], table: usize) {
        let mut open: Vec<usize> = rows.iter().map(|edge| edge.node).collect();
        while let Some(at) = open.pop() {
            match self.nodes.get_mut(at) {
                Some(Node::Source(source)) if !source.after.contains(&table) => {
                    source.after.push(table)
                }
                Some(Node::Step(step)) => open.extend(step.inputs.iter().flatten().map(|e| e.node)),
                Some(Node::Source(_) | Node::Sink(_)) | None => {}
            }
        }
    }
}

/// A column that an expression makes; one that is only renamed stays what it was.
fn computed(name: &str, schema: &StreamSchema, compiled: Compiled) -> (Column, ColumnSource) {
    if let Some(at) = compiled.as_column().and_then(|name| schema.column(name)) {
        let column = Column {
            name: Arc::from(name),
            ..schema.columns[at].clone()
        };
        return (column, ColumnSource::Input(at));
    }
    (
        Column::new(name, compiled.column_type()),
        ColumnSource::Computed(Arc::new(compiled)),
    )
}
