//! Type coercion: casts that make the operands of every operator and function agree.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, ScalarValue};
use datafusion_expr::expr::{Between, BinaryExpr, Case, InList, Like, ScalarFunction};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::type_coercion::binary::{
    BinaryTypeCoercer, comparison_coercion, like_coercion, type_union_resolution,
};
use datafusion_expr::type_coercion::functions::fields_with_udf;
use datafusion_expr::{Expr, ExprSchemable, Operator};

use crate::ExpressionError;
use crate::function;

/// The expression with all casts it needs.
pub(crate) fn coerce(expr: Expr, schema: &Arc<DFSchema>) -> Result<Expr, ExpressionError> {
    Ok(coerce_within(expr, schema, &[])?)
}

/// As [`coerce`], for what calls of the functions `simplified` stand for.
fn coerce_within(
    expr: Expr,
    schema: &Arc<DFSchema>,
    simplified: &[&str],
) -> Result<Expr, DataFusionError> {
    Ok(expr
        .transform_up(|node| Ok(Transformed::yes(agree(node, schema, simplified)?)))?
        .data)
}

fn agree(node: Expr, schema: &Arc<DFSchema>, simplified: &[&str]) -> Result<Expr, DataFusionError> {
    let type_of = |expr: &Expr| expr.get_type(schema);
    Ok(match node {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left_type, right_type) = (type_of(&left)?, type_of(&right)?);
            let (l, r) = BinaryTypeCoercer::new(&left_type, &op, &right_type).get_input_types()?;
            let (left, right) = (to(*left, &l, schema)?, to(*right, &r, schema)?);
            Expr::BinaryExpr(BinaryExpr {
                left: Box::new(left),
                op,
                right: Box::new(right),
            })
        }
        Expr::Between(Between {
            expr,
            negated,
            low,
            high,
        }) => {
            let with_low = common(&type_of(&expr)?, &type_of(&low)?, comparison_coercion)?;
            let target = common(&with_low, &type_of(&high)?, comparison_coercion)?;
            Expr::Between(Between {
                expr: Box::new(to(*expr, &target, schema)?),
                negated,
                low: Box::new(to(*low, &target, schema)?),
                high: Box::new(to(*high, &target, schema)?),
            })
        }
        Expr::InList(InList {
            expr,
            list,
            negated,
        }) => {
            let mut target = type_of(&expr)?;
            for item in &list {
                target = common(&target, &type_of(item)?, comparison_coercion)?;
            }
            let list = list.into_iter().map(|item| to(item, &target, schema));
            let list = list.collect::<Result<Vec<_>, _>>()?;
            Expr::InList(InList {
                expr: Box::new(to(*expr, &target, schema)?),
                list,
                negated,
            })
        }
        Expr::Like(Like {
            negated,
            expr,
            pattern,
            escape_char,
            case_insensitive,
        }) => {
            let target = common(&type_of(&expr)?, &type_of(&pattern)?, like_coercion)?;
            let expr = Box::new(to(*expr, &target, schema)?);
            let pattern = Box::new(to(*pattern, &target, schema)?);
            Expr::Like(Like {
                negated,
                expr,
                pattern,
                escape_char,
                case_insensitive,
            })
        }
        Expr::Case(case) => Expr::Case(agree_case(case, schema)?),
        Expr::Not(inner) => Expr::Not(Box::new(to(*inner, &DataType::Boolean, schema)?)),
        Expr::Negative(inner) => agree_negative(inner, schema)?,
        Expr::IsTrue(ref inner)
        | Expr::IsFalse(ref inner)
        | Expr::IsUnknown(ref inner)
        | Expr::IsNotTrue(ref inner)
        | Expr::IsNotFalse(ref inner)
        | Expr::IsNotUnknown(ref inner) => match type_of(inner)? {
            DataType::Boolean | DataType::Null => node,
            other => {
                return Err(DataFusionError::Plan(format!(
                    "a value of type {other} is neither true nor false"
                )));
            }
        },
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let fields = (args.iter())
                .map(|argument| Ok(Arc::new(Field::new("argument", type_of(argument)?, true))))
                .collect::<Result<Vec<_>, DataFusionError>>()?;
            let wanted = fields_with_udf(&fields, func.as_ref())
                .map_err(|error| function::misfit(&func, &fields).unwrap_or(error))?;
            let args = (args.into_iter().zip(&wanted))
                .map(|(argument, field)| to(argument, field.data_type(), schema))
                .collect::<Result<Vec<_>, _>>()?;
            // Some functions, such as concat_ws, stand for a simpler call of themselves, for ever.
            if simplified.contains(&func.name()) {
                return Ok(Expr::ScalarFunction(ScalarFunction { func, args }));
            }
            // Some conditional functions, such as coalesce, exist only as what they stand for.
            let info = SimplifyContext::builder()
                .with_schema(Arc::clone(schema))
                .build();
            match func.simplify(args, &info)? {
                ExprSimplifyResult::Original(args) => {
                    Expr::ScalarFunction(ScalarFunction { func, args })
                }
                ExprSimplifyResult::Simplified(expr) => {
                    coerce_within(expr, schema, &[simplified, &[func.name()]].concat())?
                }
            }
        }
        other => other,
    })
}

/// The negative of an integer is a difference, whose overflow is found.
fn agree_negative(inner: Box<Expr>, schema: &Arc<DFSchema>) -> Result<Expr, DataFusionError> {
    let data_type = inner.get_type(schema)?;
    if !data_type.is_signed_integer() {
        return Ok(Expr::Negative(inner));
    }
    let zero = Expr::Literal(ScalarValue::new_zero(&data_type)?, None);
    Ok(Expr::BinaryExpr(BinaryExpr {
        left: Box::new(zero),
        op: Operator::Minus,
        right: inner,
    }))
}

fn agree_case(case: Case, schema: &Arc<DFSchema>) -> Result<Case, DataFusionError> {
    let results: Vec<DataType> = (case.when_then_expr.iter().map(|(_, then)| then))
        .chain(&case.else_expr)
        .map(|expr| expr.get_type(schema))
        .collect::<Result<_, _>>()?;
    let result = type_union_resolution(&results)
        .ok_or_else(|| DataFusionError::Plan(format!("the results of a case are {results:?}")))?;
    let mut subject = DataType::Boolean;
    if let Some(expr) = &case.expr {
        subject = expr.get_type(schema)?;
        for (when, _) in &case.when_then_expr {
            subject = common(&subject, &when.get_type(schema)?, comparison_coercion)?;
        }
    }
    let when_then_expr = (case.when_then_expr.into_iter())
        .map(|(when, then)| {
            let when = Box::new(to(*when, &subject, schema)?);
            Ok((when, Box::new(to(*then, &result, schema)?)))
        })
        .collect::<Result<_, DataFusionError>>()?;
    let boxed = |expr: Option<Box<Expr>>, target: &DataType| {
        expr.map(|expr| to(*expr, target, schema).map(Box::new))
            .transpose()
    };
    Ok(Case {
        expr: boxed(case.expr, &subject)?,
        when_then_expr,
        else_expr: boxed(case.else_expr, &result)?,
    })
}

fn common(
    one: &DataType,
    two: &DataType,
    rule: impl Fn(&DataType, &DataType) -> Option<DataType>,
) -> Result<DataType, DataFusionError> {
    rule(one, two).ok_or_else(|| {
        DataFusionError::Plan(format!("values of type {one} and {two} cannot be compared"))
    })
}

/// The expression as `target`; literals are converted at once.
fn to(expr: Expr, target: &DataType, schema: &Arc<DFSchema>) -> Result<Expr, DataFusionError> {
    if expr.get_type(schema)? == *target {
        return Ok(expr);
    }
    match expr {
        Expr::Literal(value, metadata) => Ok(Expr::Literal(value.cast_to(target)?, metadata)),
        other => other.cast_to(target, schema),
    }
}
