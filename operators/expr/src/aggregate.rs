//! Aggregate calls of a window, such as `count(distinct vehicle_id) filter (where speed > 0)`.

use datafusion_sql::sqlparser::ast::{
    DuplicateTreatment, Expr, FunctionArg, FunctionArgExpr, FunctionArguments,
};
use thalweg_stream::StreamSchema;

use crate::evaluate::Compiled;
use crate::{Compiler, ExpressionError};

/// The aggregate functions that windows serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateFunction {
    /// `count(*)` or `count(x)`
    Count,
    /// `count(distinct x)`
    CountDistinct,
    /// `sum(x)`
    Sum,
    /// `avg(x)`
    Avg,
    /// `min(x)`
    Min,
    /// `max(x)`
    Max,
}

/// A checked aggregate call.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    /// Which function.
    pub function: AggregateFunction,
    /// Its argument; nothing for `count(*)`.
    pub argument: Option<Compiled>,
    /// The condition of `filter (where …)`.
    pub filter: Option<Compiled>,
}

const KNOWN: [&str; 5] = ["count", "sum", "avg", "min", "max"];
const LATER: [&str; 10] = [
    "first",
    "last",
    "stddev",
    "var",
    "approx_percentile",
    "approx_distinct",
    "collect_list",
    "median",
    "first_value",
    "last_value",
];

pub(crate) fn parse(
    compiler: &Compiler,
    text: &str,
    schema: &StreamSchema,
) -> Result<AggregateCall, ExpressionError> {
    let Expr::Function(call) = crate::parse::parse(text)?.expr else {
        return Err(ExpressionError::new(
            "an aggregate is a call such as count(*) or avg(x)",
        ));
    };
    let name = call.name.to_string().to_lowercase();
    if LATER.contains(&name.as_str()) {
        return Err(ExpressionError::new(format!(
            "aggregate {name} is not supported yet"
        )));
    }
    let refused = [
        (call.over.is_some(), "over"),
        (!call.within_group.is_empty(), "within group"),
        (call.null_treatment.is_some(), "null treatment"),
    ];
    if let Some((_, what)) = refused.iter().find(|(present, _)| *present) {
        return Err(ExpressionError::new(format!(
            "{what} is not supported in an aggregate"
        )));
    }
    let FunctionArguments::List(list) = call.args else {
        return Err(ExpressionError::new(format!(
            "aggregate {name} needs an argument"
        )));
    };
    if !list.clauses.is_empty() {
        return Err(ExpressionError::new(format!(
            "aggregate {name} takes an argument only"
        )));
    }
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let function = function(&name, distinct)?;
    let argument = match <[FunctionArg; 1]>::try_from(list.args) {
        Ok([FunctionArg::Unnamed(FunctionArgExpr::Wildcard)])
            if function == AggregateFunction::Count =>
        {
            None
        }
        Ok([FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))]) => {
            Some(compiler.compile_ast(argument, schema)?)
        }
        Ok(_) | Err(_) => {
            return Err(ExpressionError::new(format!(
                "aggregate {name} takes one argument"
            )));
        }
    };
    let filter = (call.filter)
        .map(|condition| compiler.condition(&condition.to_string(), schema))
        .transpose()?;
    Ok(AggregateCall {
        function,
        argument,
        filter,
    })
}

fn function(name: &str, distinct: bool) -> Result<AggregateFunction, ExpressionError> {
    Ok(match (name, distinct) {
        ("count", false) => AggregateFunction::Count,
        ("count", true) => AggregateFunction::CountDistinct,
        ("sum", false) => AggregateFunction::Sum,
        ("avg", false) => AggregateFunction::Avg,
        // Duplicates change neither.
        ("min", _) => AggregateFunction::Min,
        ("max", _) => AggregateFunction::Max,
        (name, true) if KNOWN.contains(&name) => {
            return Err(ExpressionError::new(format!(
                "{name}(distinct …) is not supported yet"
            )));
        }
        (name, _) => {
            return Err(ExpressionError {
                message: format!("there is no aggregate {name:?}"),
                valid: KNOWN.iter().map(|&known| known.to_owned()).collect(),
            });
        }
    })
}
