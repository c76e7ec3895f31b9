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

/// Bytes of one result that is longer than its argument. Each of a batch's rows may have so much, and
/// together they are half a gigabyte.
const VALUE_BYTES_MAX: i64 = 64 << 10;
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
        let is_constant = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
        let rows = match is_constant(text) && is_constant(count) {
            true => 1,
            false => args.number_rows,
        };
        // Of a column, a negative one is taken for the greatest there is.
        let negative = self.growth == Growth::Characters && !is_constant(count);
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
            // Memory is asked for where the text is null, too.
            let (count, length) = (count.unwrap_or(0), length.unwrap_or(0));
            let grown = match self.growth {
                Growth::Times if count <= 1 => 0,
                Growth::Times => count.saturating_mul(length),
                Growth::Characters if count <= length => 0,
                Growth::Characters => count.saturating_mul(CHARACTER_BYTES_MAX),
            };
            let name = self.inner.name();
            if count < 0 && negative {
                return Err(DataFusionError::Execution(format!(
                    "{name} makes no strings of {count} characters"
                )));
            }
            if grown > VALUE_BYTES_MAX {
                let max = VALUE_BYTES_MAX >> 10;
                return Err(DataFusionError::Execution(format!(
                    "{name} makes no strings of more than {max} KiB"
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
                "{} makes no strings of more than 64 KiB",
                &text[..text.find('(').expect("a call")]
            );
            assert_eq!(failed, [(1, why.as_str()), (2, why.as_str())], "{text}");
        }
        for text in ["lpad(s, 16384)", "repeat(s, 30000)", "lpad(s, -1)"] {
            assert_eq!(evaluate(text).expect("fits").failed.len(), 0, "{text}");
        }
        let negative = evaluate("lpad(s, n - 1)").expect("fits").failed;
        let last = negative.last().map(|f| (f.row, f.message.as_str()));
        assert_eq!(last, Some((3, "lpad makes no strings of -1 characters")));
        for text in ["lpad(s, 16385)", "repeat('abc', 2147483647)"] {
            let refused = evaluate(text).map_or(4, |evaluated| evaluated.failed.len());
            assert!(refused >= 3, "{text}");
        }
    }
}
