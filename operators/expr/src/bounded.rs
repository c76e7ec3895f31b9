//! Functions whose results are as long as a number says: a record must not be able to ask for more
//! memory than there is.

use arrow::array::AsArray as _;
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion_common::DataFusionError;
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// Bytes of one result: as many as a record may have.
const VALUE_BYTES_MAX: i64 = 64 << 20;
/// Bytes of a character in UTF-8, at most.
const CHARACTER_BYTES_MAX: i64 = 4;

/// `function`, which fails where a result would be too long if it is one that makes long results.
/// DataFusion's own limits are the longest string there is, at which it panics or memory is gone.
pub(crate) fn bounded(function: &ScalarUDF) -> Option<ScalarUDF> {
    let growth = match function.name() {
        "repeat" => Growth::Times,
        "lpad" | "rpad" => Growth::Characters,
        _ => return None,
    };
    let inner = function.clone();
    Some(ScalarUDF::new_from_impl(Bounded { inner, growth }))
}

/// What the second argument says of the result's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// So many times the first argument.
    Times,
    /// So many characters.
    Characters,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: ScalarUDF,
    growth: Growth,
}

impl Bounded {
    fn check(&self, args: &ScalarFunctionArgs) -> Result<(), DataFusionError> {
        let [text, count, ..] = args.args.as_slice() else {
            return Ok(());
        };
        let constant = [text, count]
            .iter()
            .all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let (texts, counts) = (text.to_array(rows)?, count.to_array(rows)?);
        let counts = cast(&counts, &DataType::Int64)?;
        // What is no text is for the function itself to refuse.
        let Ok(lengths) = length(&texts) else {
            return Ok(());
        };
        let lengths = cast(&lengths, &DataType::Int64)?;
        let counts = counts.as_primitive::<Int64Type>();
        let lengths = lengths.as_primitive::<Int64Type>();
        for (count, length) in counts.iter().zip(lengths.iter()) {
            let name = self.inner.name();
            // Memory is asked for where the text is null, too.
            let each = match self.growth {
                Growth::Times => length.unwrap_or(0),
                Growth::Characters => CHARACTER_BYTES_MAX,
            };
            let count = count.unwrap_or(0);
            // A negative one is taken for the greatest there is.
            if count < 0 && self.growth == Growth::Characters {
                return Err(DataFusionError::Execution(format!(
                    "{name} makes no strings of {count} characters"
                )));
            }
            if count.max(0).saturating_mul(each) > VALUE_BYTES_MAX {
                let max = VALUE_BYTES_MAX >> 20;
                return Err(DataFusionError::Execution(format!(
                    "{name} makes no strings of more than {max} MiB"
                )));
            }
        }
        Ok(())
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>, DataFusionError> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType, DataFusionError> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef, DataFusionError> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        self.check(&args)?;
        self.inner.invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, UInt64Array};
    use thalweg_stream::expression::ExpressionFactory as _;
    use thalweg_stream::{Column, ColumnType, Evaluated, Fault, StreamSchema};

    use crate::{Compiler, FunctionCaller, FunctionShape, Functions};

    struct NoFunctions;

    impl Functions for NoFunctions {
        fn shape(&self, _: &str) -> Option<FunctionShape> {
            None
        }
        fn names(&self) -> Vec<String> {
            Vec::new()
        }
        fn caller(&self, name: &str) -> Result<Box<dyn FunctionCaller>, Fault> {
            Err(Fault::bug(name.to_owned()))
        }
    }

    fn evaluate(text: &str) -> Result<Evaluated, String> {
        let columns = [("n", ColumnType::Int64), ("s", ColumnType::String)];
        let columns = columns.map(|(name, column_type)| Column::new(name, column_type));
        let schema = StreamSchema::append(columns.into(), false);
        let n: [i64; 4] = [3, i64::from(i32::MAX), i64::MAX, 0];
        let columns: [ArrayRef; 3] = [
            Arc::new(Int64Array::from(n.to_vec())),
            Arc::new(StringViewArray::from(vec![
                Some("a"),
                Some("bc"),
                Some("d"),
                None,
            ])),
            Arc::new(UInt64Array::from(vec![0, 1, 2, 3])),
        ];
        let batch = RecordBatch::try_new(schema.arrow(), columns.into()).expect("fits");
        let compiled = Compiler::new(Arc::new(NoFunctions)).compile(text, &schema);
        let mut built = compiled
            .map_err(|error| error.message)?
            .build()
            .expect("builds");
        Ok(built.evaluate(&batch).expect("evaluates"))
    }

    #[test]
    fn a_row_that_asks_for_too_long_a_string_fails_alone() {
        for text in [
            "lpad(s, n)",
            "rpad(s, n, 'xy')",
            "repeat(s, n)",
            "lpad('a', n)",
        ] {
            let evaluated = evaluate(text).expect("fits");
            let failed: Vec<_> = evaluated
                .failed
                .iter()
                .map(|f| (f.row, f.message.as_str()))
                .collect();
            let why = format!(
                "{} makes no strings of more than 64 MiB",
                &text[..text.find('(').expect("a call")]
            );
            assert_eq!(failed, [(1, why.as_str()), (2, why.as_str())], "{text}");
        }
        let negative = evaluate("lpad(s, n - 1)").expect("fits").failed;
        let last = negative.last().map(|f| (f.row, f.message.as_str()));
        assert_eq!(last, Some((3, "lpad makes no strings of -1 characters")));
        for text in ["lpad(s, 16777217)", "repeat('abc', 2147483647)"] {
            let refused = evaluate(text).map_or(4, |evaluated| evaluated.failed.len());
            assert!(refused >= 3, "{text}");
        }
    }
}
