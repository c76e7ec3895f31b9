//! The state of a window step as rows: its panes, with keys and accumulators.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampMillisecondArray};
use thalweg_state::{
    FingerprintSet, KeyedTable, Layout, Part, Reader, Register, Sections, ShapeReader, StateRows,
    builders,
};
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{Column, ColumnType, Fault, Section};

use crate::measure::{Measure, Numbers, ROWS, numbers};
use crate::outcome::ResultColumn;
use crate::spec::Function;

/// What a shape says.
struct Shape {
    size_ms: i64,
    key: Vec<Column>,
    words: usize,
    payload: bool,
    /// Accumulators in the order of their measures: name, function, measure, type.
    columns: Vec<(String, Function, Measure, ColumnType)>,
}

/// The panes in `sections`, which are some key groups' whole state, of a step of this `shape`: a
/// row for every key and window, with the number of rows in it and the accumulators as they stand.
/// Nothing if the shape is not a window's.
///
/// # Errors
/// The shape is of a newer program; corrupt if the sections are not of that shape.
pub fn state_rows(shape: &str, sections: &[Section]) -> Result<Option<Vec<StateRows>>, Fault> {
    if !shape.starts_with("tumbling ") {
        return Ok(None);
    }
    let shape = Shape::read(shape)?;
    let mut fired = Register::new(START_OF_TIME);
    let mut distinct = FingerprintSet::new(false);
    let mut table = KeyedTable::new(Layout {
        words: shape.words,
        payload: shape.payload,
    });
    let parts: &mut [&mut dyn Part] = &mut [&mut fired, &mut table, &mut distinct];
    for section in sections {
        Sections::restore(section, parts)?;
    }
    let (mut starts, mut ends, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut keys = builders(&shape.key)?;
    let mut results = (shape.columns.iter())
        .map(|(_, function, measure, of)| ResultColumn::new(*function, measure.clone(), of.arrow()))
        .collect::<Result<Vec<_>, Fault>>()?;
    for (start, pane) in table.panes() {
        for entry in pane.sorted() {
            starts.push(start);
            ends.push(start.saturating_add(shape.size_ms));
            rows.push(entry.words.get(ROWS).map_or(0, |&rows| rows as i64));
            let mut key = Reader::new(entry.key.as_slice());
            for builder in &mut keys {
                builder.push(&mut key)?;
            }
            for result in &mut results {
                // A sum that does not fit its type is null.
                let _fits = result.push(&entry);
            }
        }
    }
    let times = |times| -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC"))
    };
    let mut columns = vec![
        (
            Column::new("window_start", ColumnType::Timestamp),
            times(starts),
        ),
        (
            Column::new("window_end", ColumnType::Timestamp),
            times(ends),
        ),
    ];
    for (column, builder) in shape.key.iter().zip(&mut keys) {
        columns.push((column.clone(), builder.finish()?));
    }
    let rows: ArrayRef = Arc::new(Int64Array::from(rows));
    columns.push((Column::new("rows", ColumnType::Int64), rows));
    for ((name, _, _, of), result) in shape.columns.iter().zip(&mut results) {
        columns.push((Column::new(name.as_str(), of.clone()), result.finish()?));
    }
    Ok(Some(vec![StateRows::new("windows", columns)?]))
}

impl Shape {
    fn read(text: &str) -> Result<Self, Fault> {
        let mut reader = ShapeReader::new(text);
        reader.expect("tumbling 1: size ")?;
        let size_ms = reader.number(" ms offset ")?;
        reader.number::<i64>(" ms by ")?;
        let key = reader.columns()?;
        reader.expect(" measures [")?;
        let measures = reader.up_to("]")?;
        let mut shape = Self {
            size_ms,
            key,
            words: ROWS + 1,
            payload: false,
            columns: Vec::new(),
        };
        for measure in measures.split("; ").filter(|text| !text.is_empty()) {
            shape.measure(measure, &reader)?;
        }
        Ok(shape)
    }

    /// Reads `argument[ where filter] n=1 sum=2 min= max= distinct=`.
    fn measure(&mut self, text: &str, shape: &ShapeReader<'_>) -> Result<(), Fault> {
        let unknown = || Fault::user(format!("the measure {text:?} cannot be read"));
        let mut places = [None; 5];
        let mut rest = text;
        for (place, name) in places
            .iter_mut()
            .zip(["distinct", "max", "min", "sum", "n"])
        {
            let (before, at) = (rest.rsplit_once(&format!(" {name}="))).ok_or_else(unknown)?;
            *place = match at {
                "" => None,
                at => Some(at.parse::<usize>().map_err(|_| unknown())?),
            };
            rest = before;
        }
        let [distinct, max, min, sum, count] = places;
        let (argument, filter) = match rest.split_once(" where ") {
            Some((argument, filter)) => (argument, Some(shape.column(filter)?)),
            None => (rest, None),
        };
        let argument = match argument {
            "*" => None,
            argument => Some(shape.column(argument)?),
        };
        let of = argument.as_ref().map(|column| &column.column_type);
        let kind = of.map_or(Numbers::None, numbers);
        let scale = match of {
            Some(ColumnType::Decimal { scale, .. }) => *scale,
            _ => 0,
        };
        let measure = Measure {
            argument: argument.as_ref().map(|_| 0),
            filter: filter.as_ref().map(|_| 0),
            numbers: kind,
            argument_scale: scale,
            count: count.ok_or_else(unknown)?,
            sum,
            min,
            max,
            distinct,
        };
        let extreme = match kind {
            Numbers::Bytes => 0,
            Numbers::Decimal => 2,
            Numbers::Int | Numbers::Float | Numbers::None => 1,
        };
        self.payload |= kind == Numbers::Bytes && (min.is_some() || max.is_some());
        let ends = [
            (count, 1),
            (sum, 2),
            (min, extreme),
            (max, extreme),
            (distinct, 1),
        ];
        for (at, words) in ends {
            if let Some(at) = at.filter(|_| words > 0) {
                self.words = self.words.max(at + words);
            }
        }
        let name = argument.as_ref().map_or("*", |column| &column.name);
        let filter = filter.map_or_else(String::new, |column| format!(" where {}", column.name));
        let functions = [
            (
                "count",
                Function::Count,
                Some(measure.count).filter(|&at| at != ROWS),
            ),
            ("sum", Function::Sum, sum),
            ("min", Function::Min, min),
            ("max", Function::Max, max),
            ("count(distinct", Function::CountDistinct, distinct),
        ];
        for (word, function, at) in functions {
            if at.is_none() {
                continue;
            }
            let shown = match function {
                Function::CountDistinct => format!("{word} {name}){filter}"),
                Function::Count | Function::Sum | Function::Avg | Function::Min | Function::Max => {
                    format!("{word}({name}){filter}")
                }
            };
            let result = function.result_type(of)?;
            self.columns
                .push((shown, function, measure.clone(), result));
        }
        Ok(())
    }
}
