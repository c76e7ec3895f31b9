//! The sink: what it can do, and whether a stream and a container fit it.

use std::sync::Arc;

use async_trait::async_trait;
use thalweg_formats::{JsonLines, Nulls, WriteOptions};
use thalweg_stream::operator::Route;
use thalweg_stream::sink::{SinkCapabilities, SinkContext};
use thalweg_stream::{
    Column, ColumnType, Fault, Publisher, Sink, SinkWriter, StreamKind, StreamSchema,
};

use crate::account;
use crate::client::Client;
use crate::counters::Counters;
use crate::error::CosmosError;
use crate::order::Ordering;
use crate::partition::PartitionValue;
use crate::publisher::CosmosPublisher;
use crate::spec::CosmosSpec;
use crate::stamp::STAMP_FIELD;
use crate::writer::{CosmosWriter, Shape};

/// Fields of a document that are the service's own.
const SYSTEM_FIELDS: [&str; 5] = ["_rid", "_self", "_etag", "_ts", "_attachments"];

/// A Cosmos DB container as a sink of one stream.
#[derive(Debug)]
pub struct CosmosSink {
    spec: Arc<CosmosSpec>,
    shape: Shape,
    counters: Arc<Counters>,
}

impl CosmosSink {
    /// A sink of the stream of `schema`. Nothing is asked of the service yet.
    ///
    /// # Errors
    /// User: a column that is missing or of a type that cannot serve; names that collide; a stream
    /// of changes whose key is not contained in the id and that has no `newest_by`.
    pub fn new(spec: CosmosSpec, schema: StreamSchema) -> Result<Self, CosmosError> {
        let shape = shape(&spec, schema)?;
        Ok(Self {
            spec: Arc::new(spec),
            shape,
            counters: Arc::default(),
        })
    }

    /// What the sink has done so far, for metrics.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

#[async_trait]
impl Sink for CosmosSink {
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities {
            // Without etags a process that was thought dead may still overwrite.
            exactly_once: self.spec.guard,
            ordered: true,
            changes: true,
            route: Route::Key(vec![self.shape.id_at]),
            grouping: None,
        }
    }

    fn writer(&self, _worker: usize, _context: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
        Ok(Box::new(CosmosWriter::new(self.shape.clone())))
    }

    async fn publisher(&self, context: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
        let account = account::read(&self.spec, context.clock.as_ref()).await?;
        if self.spec.guard {
            account.check_one_write_region(&self.spec.endpoint)?;
        }
        let client = Box::pin(Client::connect(&self.spec)).await?;
        let counters = Arc::clone(&self.counters);
        Ok(Box::new(CosmosPublisher::new(
            Arc::clone(&self.spec),
            client,
            counters,
            &context,
        )))
    }
}

fn shape(spec: &CosmosSpec, schema: StreamSchema) -> Result<Shape, CosmosError> {
    let wrong = CosmosError::of_option;
    let find = |option, name: &str| {
        schema
            .column(name)
            .ok_or_else(|| wrong(option, format!("the stream has no column \"{name}\"")))
    };
    crate::account::endpoint(spec)?;
    let id_at = find("id", &spec.id)?;
    let partition_at = find("partition_key", &spec.partition_key)?;
    let type_at = |at: usize| schema.columns.get(at).map(|c| c.column_type.clone());
    if let Some(unfit) = type_at(id_at).filter(|t| !names_documents(t)) {
        let what = format!("column \"{}\" is {unfit}, which names no document", spec.id);
        return Err(wrong("id", what));
    }
    if let Some(unfit) = type_at(partition_at).filter(|t| !PartitionValue::fits(t)) {
        let name = &spec.partition_key;
        let what = format!("column \"{name}\" is {unfit}, which cannot be a partition key");
        return Err(wrong("partition_key", what));
    }
    // Less than one is no pace at all; the emptiest read costs one.
    if let Some(units) = spec
        .request_units
        .filter(|units| !(1.0..=1e12).contains(units))
    {
        let what = format!("{units} a second; give at least 1");
        return Err(wrong("request_units", what));
    }
    check_names(spec, &schema)?;
    check_changes(spec, &schema, [id_at, partition_at])?;
    let ordering = Ordering::new(&schema, spec.newest_by.as_deref())?;

    let id_is_named_id = spec.id == "id";
    let columns_at: Vec<usize> = (0..schema.columns.len())
        .filter(|&at| at != partition_at && !(id_is_named_id && at == id_at))
        .collect();
    let copied = columns_at
        .iter()
        .filter_map(|&at| schema.columns.get(at).cloned())
        .collect();
    let options = WriteOptions {
        timestamps: spec.timestamps,
        nulls: spec.nulls,
        include: Vec::new(),
    };
    let lines = |columns: Vec<Column>, options: WriteOptions| {
        JsonLines::new(&StreamSchema::append(columns, false), options)
            .map_err(|error| CosmosError::Bug(error.to_string()))
    };
    // The name is left out, so that the value can be found; null keys are written.
    let unnamed = |at: usize| {
        let column = type_at(at).map(|column_type| Column::new("", column_type));
        let options = WriteOptions {
            timestamps: spec.timestamps,
            nulls: Nulls::Write,
            include: Vec::new(),
        };
        lines(column.into_iter().collect(), options)
    };
    Ok(Shape {
        id_at,
        id_is_named_id,
        partition_at,
        ordering,
        columns: lines(copied, options)?,
        columns_at,
        id: unnamed(id_at)?,
        partition: unnamed(partition_at)?,
        limits: spec.limits,
        schema,
    })
}

fn names_documents(column_type: &ColumnType) -> bool {
    match column_type {
        ColumnType::Bool
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::String
        | ColumnType::Date
        | ColumnType::Timestamp => true,
        // Floats that are equal can be written differently; the others have no short text.
        ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Decimal { .. }
        | ColumnType::Binary
        | ColumnType::Json
        | ColumnType::List(_) => false,
    }
}

/// What is wrong with the stream, whichever option is changed.
fn unfit(what: String) -> CosmosError {
    CosmosError::Definition { option: None, what }
}

/// A document has fields of its own beside the stream's columns.
fn check_names(spec: &CosmosSpec, schema: &StreamSchema) -> Result<(), CosmosError> {
    for Column { name, .. } in &schema.columns {
        let name: &str = name;
        if name == STAMP_FIELD || SYSTEM_FIELDS.contains(&name) {
            return Err(unfit(format!(
                "column \"{name}\": documents have a field of this name already; rename it"
            )));
        }
        if name == "id" && spec.id != "id" {
            return Err(unfit(format!(
                "column \"id\" is not the document's id (that is \"{}\"); rename it",
                spec.id
            )));
        }
    }
    Ok(())
}

/// Later changes of a key win; that has a meaning only if one document holds one key.
fn check_changes(
    spec: &CosmosSpec,
    schema: &StreamSchema,
    document: [usize; 2],
) -> Result<(), CosmosError> {
    let StreamKind::Changes { key } = &schema.kind else {
        return Ok(());
    };
    let outside: Vec<&str> = (key.iter())
        .filter(|at| !document.contains(at))
        .filter_map(|&at| schema.columns.get(at).map(|c| &*c.name))
        .collect();
    if outside.is_empty() || spec.newest_by.is_some() {
        return Ok(());
    }
    Err(unfit(format!(
        "the stream's rows change by key ({}), which documents named by \"{}\" do not hold: give \
         newest_by, or an id that contains the key",
        outside.join(", "),
        spec.id
    )))
}

#[cfg(test)]
mod tests {
    use thalweg_stream::{Column, ColumnType, StreamKind, StreamSchema};

    use super::CosmosSink;
    use crate::spec::{AccountKey, CosmosSpec};

    fn spec(id: &str, partition_key: &str) -> CosmosSpec {
        let key = AccountKey::new("c2VjcmV0");
        CosmosSpec::new("http://localhost:1/", key, ["db", "c"], [id, partition_key])
    }

    fn schema(columns: &[(&str, ColumnType)], key: Option<Vec<usize>>) -> StreamSchema {
        let columns = columns
            .iter()
            .map(|(n, t)| Column::new(*n, t.clone()))
            .collect();
        let mut schema = StreamSchema::append(columns, true);
        if let Some(key) = key {
            schema.kind = StreamKind::Changes { key };
        }
        schema
    }

    fn refusal(spec: CosmosSpec, schema: StreamSchema) -> String {
        CosmosSink::new(spec, schema)
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        use ColumnType::{Float64, Json, String as Text, Timestamp};
        let plain = schema(&[("a", Text), ("b", Float64), ("j", Json)], None);
        assert_eq!(refusal(spec("a", "a"), plain.clone()), "");
        assert_eq!(
            refusal(spec("x", "a"), plain.clone()),
            "id: the stream has no column \"x\""
        );
        assert!(refusal(spec("b", "a"), plain.clone()).contains("\"b\" is float64"));
        assert!(refusal(spec("a", "j"), plain.clone()).contains("\"j\" is json"));
        let mut by = spec("a", "a");
        by.newest_by = Some("j".into());
        assert!(refusal(by.clone(), plain.clone()).contains("has no order"));
        by.newest_by = Some("y".into());
        assert!(refusal(by, plain).contains("no column \"y\""));

        for (endpoint, fits) in [
            ("https://roads.documents.azure.com/", true),
            ("http://localhost:8081", true),
            ("http://[::1]:8081", true),
            ("http://roads.documents.azure.com/", false),
            ("roads.documents.azure.com", false),
            ("ftp://localhost", false),
        ] {
            let mut elsewhere = spec("a", "a");
            elsewhere.endpoint = endpoint.into();
            let refusal = refusal(elsewhere, schema(&[("a", Text)], None));
            let refused = refusal.contains("is not a Cosmos DB endpoint");
            assert_eq!(refused, !fits, "{endpoint}: {refusal}");
        }

        for units in [0.0, -5.0, f64::NAN, f64::INFINITY] {
            let mut starved = spec("a", "a");
            starved.request_units = Some(units);
            let refusal = refusal(starved, schema(&[("a", Text)], None));
            assert!(refusal.contains("request_units"), "{units}: {refusal}");
        }
        let id = schema(&[("a", Text), ("id", Text)], None);
        assert!(refusal(spec("a", "a"), id.clone()).contains("rename it"));
        assert_eq!(refusal(spec("id", "a"), id), "");
        assert!(
            refusal(spec("a", "a"), schema(&[("a", Text), ("_ts", Text)], None)).contains("_ts")
        );

        let windows = schema(
            &[("a", Text), ("window_start", Timestamp)],
            Some(vec![0, 1]),
        );
        assert!(refusal(spec("a", "a"), windows.clone()).contains("key (window_start)"));
        let mut newest = spec("a", "a");
        newest.newest_by = Some("window_start".into());
        assert_eq!(refusal(newest, windows.clone()), "");
        assert_eq!(
            refusal(spec("a", "window_start"), windows),
            "",
            "the key names the document"
        );
    }

    #[test]
    fn the_key_is_never_shown() {
        let sink = CosmosSink::new(spec("a", "a"), schema(&[("a", ColumnType::String)], None));
        let shown = format!("{sink:?}");
        assert!(
            shown.contains("hidden") && !shown.contains("c2VjcmV0"),
            "{shown}"
        );
    }
}
