//! The state of a window step as rows: its panes, with keys and accumulators.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampMillisecondArray};
use thalweg_state::{
    FingerprintSet, KeyedTable, Part, Reader, Register, Sections, ShapeReader, StateRows, builders,
};
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{Column, ColumnType, Fault, Section};

use crate::measure::{self, Measure, Measures, Numbers, ROWS, numbers};
use crate::operator::PARTS;
use crate::outcome::{Reading, ResultColumn};
use crate::spec::Function;

/// A measure's argument, filter, and the type of its argument.
type Named = (String, String, Option<ColumnType>);

/// What a shape says.
pub(crate) struct Shape {
    size_ms: i64,
    key: Vec<Column>,
    pub(crate) measures: Measures,
    /// What the measures are of, as the shape says it.
    pub(crate) labels: Vec<String>,
    /// Accumulators in the order of their measures: name, what it reads, type.
    columns: Vec<(String, Reading, ColumnType)>,
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
    let mut table = KeyedTable::new(shape.measures.layout());
    let mut closed = Register::new(START_OF_TIME);
    let parts: &mut [&mut dyn Part] = &mut [&mut fired, &mut table, &mut distinct, &mut closed];
    for section in sections {
        Sections::restore_versions(section, parts, &PARTS)?;
    }
    let (mut starts, mut ends, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut keys = builders(&shape.key)?;
    let mut results = (shape.columns.iter())
        .map(|(_, result, of)| ResultColumn::new(result.clone(), of.arrow()))
        .collect::<Result<Vec<_>, Fault>>()?;
    for (start, pane) in table.panes() {
        for entry in pane.sorted() {
            starts.push(start);
            ends.push(start.saturating_add(shape.size_ms));
            rows.push(
                entry
                    .words
                    .get(ROWS)
                    .map_or(0, |&word| measure::rows(word) as i64),
            );
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
    for ((name, _, of), result) in shape.columns.iter().zip(&mut results) {
        columns.push((Column::new(name.as_str(), of.clone()), result.finish()?));
    }
    Ok(Some(vec![StateRows::new("windows", columns)?]))
}

impl Shape {
    pub(crate) fn read(text: &str) -> Result<Self, Fault> {
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
            measures: Measures {
                words: ROWS + 1,
                ..Measures::default()
            },
            labels: Vec::new(),
            columns: Vec::new(),
        };
        let mut named = Vec::new();
        for measure in measures.split("; ").filter(|text| !text.is_empty()) {
            named.push(shape.measure(measure, &reader)?);
        }
        for (at, function) in shape.measures.accumulators() {
            if let (Some((name, filter, of)), Some(measure)) =
                (named.get(at), shape.measures.list.get(at))
            {
                let shown = match function {
                    Function::CountDistinct => format!("count(distinct {name}){filter}"),
                    Function::Count => format!("count({name}){filter}"),
                    Function::Sum | Function::Avg => format!("sum({name}){filter}"),
                    Function::Min => format!("min({name}){filter}"),
                    Function::Max => format!("max({name}){filter}"),
                };
                let reading = Reading {
                    function,
                    measure: measure.clone(),
                    unknown: shape.measures.unknown_bit(at, function).unwrap_or(0),
                };
                let of = function.result_type(of.as_ref())?;
                shape.columns.push((shown, reading, of));
            }
        }
        Ok(shape)
    }

    /// Reads `argument[ where filter] n=1 sum=2 min= max= distinct=`.
    fn measure(&mut self, text: &str, shape: &ShapeReader<'_>) -> Result<Named, Fault> {
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
        for function in [
            Function::Count,
            Function::Sum,
            Function::Min,
            Function::Max,
            Function::CountDistinct,
        ] {
            match measure.place(function) {
                Some((at, 0)) => {
                    self.measures.payload_entries = self.measures.payload_entries.max(at + 1);
                }
                Some((at, words)) => self.measures.words = self.measures.words.max(at + words),
                None => {}
            }
        }
        self.measures.list.push(measure);
        self.labels.push(rest.to_owned());
        let name = argument
            .as_ref()
            .map_or("*", |column| &column.name)
            .to_owned();
        let filter = filter.map_or_else(String::new, |column| format!(" where {}", column.name));
        Ok((name, filter, argument.map(|column| column.column_type)))
    }
}
