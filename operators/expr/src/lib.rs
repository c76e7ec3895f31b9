//! SQL scalar expressions over batches, joined with plugin functions.
//!
//! The only crate that names DataFusion. An expression is parsed, typed and checked when the job is
//! planned ([`Compiler::compile`]); each worker then builds an instance of its own. Identifiers are
//! taken as written, integer arithmetic is checked, and only immutable functions exist: `now`,
//! `random` and their like would make output depend on when it was computed.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "DataFusion's and Arrow's enums have many cases that no expression of a job has"
)]

mod aggregate;
mod bounded;
mod coerce;
mod evaluate;
mod function;
mod parse;
mod transform;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, TableReference};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion_expr::{
    AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF,
};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast;
use thalweg_stream::expression::ExpressionFactory;
use thalweg_stream::schema::EVENT_TIME;
use thalweg_stream::{ColumnType, StreamSchema};

pub use aggregate::{AggregateCall, AggregateFunction};
pub use evaluate::Compiled;
pub use function::{FunctionCaller, FunctionShape, Functions};
pub use transform::{Branch, ColumnSource, TransformFactory};

/// Why an expression is wrong; the caller adds where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    /// What is wrong, naming the column or function.
    pub message: String,
    /// The names that would have been valid, if one was unknown.
    pub valid: Vec<String>,
}

impl ExpressionError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            valid: Vec::new(),
        }
    }
}

impl From<DataFusionError> for ExpressionError {
    fn from(error: DataFusionError) -> Self {
        let text = error.strip_backtrace();
        let text = text.split("\n\n").next().unwrap_or_default();
        // Not ours to pass on: whom to tell of it.
        let text = text
            .split("\nThis issue was likely")
            .next()
            .unwrap_or_default();
        let text = (text.strip_prefix("SQL error: ParserError(\""))
            .and_then(|text| text.strip_suffix("\")"))
            .unwrap_or(text);
        let mut text = text;
        while let Some(rest) = KINDS.iter().find_map(|kind| text.strip_prefix(kind)) {
            text = rest;
        }
        Self::new(match unsupported(text) {
            Some(what) => format!("{what} cannot stand in an expression"),
            None => uncapitalised(text.trim_end_matches('.')),
        })
    }
}

/// What errors of DataFusion and Arrow begin with, and says nothing to the author of a definition.
const KINDS: [&str; 8] = [
    "Error during planning: ",
    "This feature is not implemented: ",
    "Internal error: ",
    "Execution error: ",
    "SQL error: ",
    "Arrow error: ",
    "Compute error: ",
    "Cast error: ",
];

/// What the planner does not know, if the error is that: its own words are a dump of the syntax tree.
fn unsupported(text: &str) -> Option<String> {
    let starts = |known: &str| text.starts_with(known);
    if let Some(node) = text.strip_prefix("Unsupported ast node in sqltorel: ") {
        let name = node.split(|c: char| !c.is_alphanumeric()).next();
        return name.map(str::to_uppercase);
    }
    let what = if starts("GetFieldAccess not supported") || starts("Cannot access field at") {
        "an element or field of a value (a column with a `path` has it)"
    } else if starts("Could not plan array literal") {
        "an array literal"
    } else if starts("MAP not supported") {
        "a map literal"
    } else if starts("Placeholder ") {
        "a placeholder"
    } else if text.contains("No functions registered with this context") {
        "a window function"
    } else {
        return None;
    };
    Some(what.to_owned())
}

/// A sentence without its capital; words of capitals keep them.
fn uncapitalised(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().collect::<String>() + letters.as_str()
        }
        _ => text.to_owned(),
    }
}

/// Compiles the expressions of one stream.
pub struct Compiler {
    functions: Arc<dyn Functions>,
    built_in: BTreeMap<String, Arc<ScalarUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
    /// What expressions may name in the schema asked for last: a step has many over one.
    visible: Mutex<Option<(StreamSchema, Arc<DFSchema>)>>,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler")
            .field("built_in", &self.built_in.len())
            .finish_non_exhaustive()
    }
}

impl Compiler {
    /// A compiler that also knows `functions`.
    #[must_use]
    pub fn new(functions: Arc<dyn Functions>) -> Self {
        let mut built_in = BTreeMap::new();
        for function in datafusion_functions::all_default_functions() {
            if function.signature().volatility == Volatility::Immutable {
                let function = bounded::bounded(&function).map_or(function, Arc::new);
                for alias in function.aliases() {
                    built_in.insert(alias.clone(), Arc::clone(&function));
                }
                built_in.insert(function.name().to_owned(), function);
            }
        }
        let planners: Vec<Arc<dyn ExprPlanner>> = vec![
            Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
            Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
            Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
        ];
        Self {
            functions,
            built_in,
            planners,
            options: ConfigOptions::new(),
            visible: Mutex::new(None),
        }
    }

    /// Parses, types and checks an expression over rows of `schema`.
    ///
    /// # Errors
    /// What is wrong with it, with the valid names where one is unknown.
    pub fn compile(&self, text: &str, schema: &StreamSchema) -> Result<Compiled, ExpressionError> {
        let parsed = parse::parse(text)?;
        if let Some(alias) = parsed.alias {
            return Err(ExpressionError::new(format!(
                "an expression has no alias, here {alias}"
            )));
        }
        self.compile_ast(parsed.expr, schema)
    }

    /// As [`compile`](Self::compile), and the result must be a boolean.
    ///
    /// # Errors
    /// Also if it is of another type.
    pub fn condition(
        &self,
        text: &str,
        schema: &StreamSchema,
    ) -> Result<Compiled, ExpressionError> {
        let compiled = self.compile(text, schema)?;
        match compiled.column_type() {
            ColumnType::Bool => Ok(compiled),
            other => Err(ExpressionError::new(format!(
                "a condition is bool, this is {other}"
            ))),
        }
    }

    /// Parses an aggregate call such as `count(distinct vehicle_id) filter (where speed > 0)`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn aggregate(
        &self,
        text: &str,
        schema: &StreamSchema,
    ) -> Result<AggregateCall, ExpressionError> {
        aggregate::parse(self, text, schema)
    }

    pub(crate) fn compile_ast(
        &self,
        sql: ast::Expr,
        schema: &StreamSchema,
    ) -> Result<Compiled, ExpressionError> {
        let schema = self.visible(schema)?;
        let options = ParserOptions::new()
            .with_enable_ident_normalization(false)
            .with_parse_float_as_decimal(false);
        let planner = SqlToRel::new_with_options(self, options);
        let expr = planner.sql_to_expr(sql, &schema, &mut PlannerContext::new());
        let expr = expr.map_err(|error| self.explain(error, &schema))?;
        refuse(&expr)?;
        let expr = coerce::coerce(expr, &schema)?;
        let column_type = column_type(&expr, &schema)?;
        Compiled::new(expr, schema, column_type, Arc::clone(&self.functions))
    }

    /// The columns that an expression may name: the user's, and `event_time`.
    fn visible(&self, schema: &StreamSchema) -> Result<Arc<DFSchema>, ExpressionError> {
        let mut last = (self.visible.lock()).unwrap_or_else(PoisonError::into_inner);
        if let Some((_, visible)) = last.as_ref().filter(|(known, _)| known == schema) {
            return Ok(Arc::clone(visible));
        }
        let visible = Arc::new(DFSchema::try_from(visible(schema))?);
        *last = Some((schema.clone(), Arc::clone(&visible)));
        Ok(visible)
    }

    /// That there is no such function, and which there are beside it in its plugin.
    fn missing(&self, name: &str) -> String {
        let plugin = name.split_once('.').map(|(plugin, _)| format!("{plugin}."));
        let names = self.functions.names();
        let beside: Vec<&str> = (names.iter())
            .filter(|name| {
                plugin
                    .as_ref()
                    .is_some_and(|plugin| name.starts_with(plugin))
            })
            .map(String::as_str)
            .collect();
        match beside.is_empty() {
            true => format!("there is no function {name:?}"),
            false => format!(
                "there is no function {name:?}; there are {}",
                beside.join(", ")
            ),
        }
    }

    /// An error in the words of a definition.
    fn explain(&self, error: DataFusionError, schema: &DFSchema) -> ExpressionError {
        let columns: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
        if let DataFusionError::SchemaError(inner, _) = error.find_root()
            && let datafusion_common::SchemaError::FieldNotFound { field, .. } = &**inner
        {
            let message = format!(
                "there is no column {:?}; there are {}",
                field.name,
                columns.join(", ")
            );
            return ExpressionError {
                message,
                valid: columns,
            };
        }
        let mut explained = ExpressionError::from(error);
        if let Some(rest) = explained.message.strip_prefix("invalid function '")
            && let Some((name, _)) = rest.split_once('\'')
        {
            let volatile = [
                "now",
                "random",
                "uuid",
                "current_date",
                "current_time",
                "today",
            ];
            explained.message = if volatile.contains(&name.to_lowercase().as_str()) {
                format!("{name} is volatile: results would depend on when they are computed")
            } else {
                self.missing(name)
            };
            explained.valid = self
                .built_in
                .keys()
                .cloned()
                .chain(self.functions.names())
                .collect();
        }
        explained
    }
}

fn visible(schema: &StreamSchema) -> Schema {
    let arrow = schema.arrow();
    let fields: Vec<Arc<Field>> = (arrow.fields().iter())
        .filter(|field| !field.name().starts_with('_') || schema.column(field.name()).is_some())
        .cloned()
        .collect();
    debug_assert!(!schema.timed || fields.iter().any(|field| field.name() == EVENT_TIME));
    Schema::new(fields)
}

fn refuse(expr: &Expr) -> Result<(), ExpressionError> {
    let mut refused = None;
    expr.apply(|node| {
        let what = match node {
            Expr::AggregateFunction(call) => Some(format!("aggregate {}", call.func.name())),
            Expr::WindowFunction(_) => Some("a window function".to_owned()),
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => {
                Some("a subquery".to_owned())
            }
            _ => None,
        };
        refused = refused.take().or(what);
        Ok(TreeNodeRecursion::Continue)
    })?;
    match refused {
        Some(what) => Err(ExpressionError::new(format!(
            "{what} cannot stand in an expression"
        ))),
        None => Ok(()),
    }
}

/// The type of a definition that an expression's result has.
fn column_type(expr: &Expr, schema: &DFSchema) -> Result<ColumnType, ExpressionError> {
    use datafusion_expr::ExprSchemable as _;
    let data_type = expr.get_type(schema)?;
    type_of(&data_type)
        .ok_or_else(|| ExpressionError::new(format!("a column cannot be of type {data_type}")))
}

/// The column type that carries values of an Arrow type, perhaps after a cast.
pub(crate) fn type_of(data_type: &DataType) -> Option<ColumnType> {
    Some(match data_type {
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            ColumnType::String
        }
        DataType::Boolean => ColumnType::Bool,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            ColumnType::Int32
        }
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => ColumnType::Int64,
        DataType::Float16 | DataType::Float32 => ColumnType::Float32,
        DataType::Float64 => ColumnType::Float64,
        DataType::Decimal128(precision, scale) if *scale >= 0 => ColumnType::Decimal {
            precision: *precision,
            scale: *scale,
        },
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => ColumnType::Binary,
        DataType::Date32 => ColumnType::Date,
        DataType::Timestamp(
            TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond,
            _,
        ) => ColumnType::Timestamp,
        DataType::List(item) => ColumnType::List(Box::new(type_of(item.data_type())?)),
        _ => return None,
    })
}

/// The types of columns by their names in a definition, where SQL has others for them.
#[derive(Debug)]
struct ColumnTypes;

impl TypePlanner for ColumnTypes {
    fn plan_type_field(&self, sql: &ast::DataType) -> Result<Option<FieldRef>, DataFusionError> {
        let data_type = match sql {
            ast::DataType::Int32 => DataType::Int32,
            ast::DataType::Int64 => DataType::Int64,
            ast::DataType::Float32 => DataType::Float32,
            ast::DataType::Float64 => DataType::Float64,
            ast::DataType::Binary(None) => DataType::Binary,
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}

impl ContextProvider for Compiler {
    fn get_table_source(
        &self,
        name: TableReference,
    ) -> Result<Arc<dyn TableSource>, DataFusionError> {
        Err(DataFusionError::Plan(format!(
            "there is no table {name} in an expression"
        )))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if let Some(shape) = self.functions.shape(name) {
            return Some(Arc::new(function::declared(name, shape)));
        }
        self.built_in
            .get(name)
            .or_else(|| self.built_in.get(&name.to_lowercase()))
            .cloned()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(ColumnTypes))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.built_in
            .keys()
            .cloned()
            .chain(self.functions.names())
            .collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
