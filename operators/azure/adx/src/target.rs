//! The table rows go to: whether it is there, whether the stream's columns fit it, and the mapping
//! that says where each goes.

use serde_json::{Value, json};
use thalweg_stream::column::ColumnType;
use thalweg_stream::schema::{CHANGE, EVENT_TIME};
use thalweg_stream::{Class, Column, Fault, StreamKind, StreamSchema};

use crate::client::{Client, quoted_name};
use crate::cluster::Endpoint;
use crate::error::Error;

/// A table's column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetColumn {
    pub(crate) name: String,
    pub(crate) kind: String,
}

/// Reads the columns of a table.
///
/// # Errors
/// User, saying whether the database or the table is missing.
pub(crate) async fn describe(
    client: &Client,
    database: &str,
    table: &str,
) -> Result<Vec<TargetColumn>, Fault> {
    let found = client
        .command_again(Endpoint::Engine, database, ".show databases")
        .await
        .map_err(connecting)?;
    let named = |row: usize| {
        ["DatabaseName", "PrettyName"].map(|column| found.text(row, column).unwrap_or_default())
    };
    if !(0..found.rows.len()).any(|row| named(row).contains(&database)) {
        let there: Vec<&str> = (0..found.rows.len()).map(|row| named(row)[0]).collect();
        return Err(Fault::user(format!(
            "database {database:?} does not exist in {}, or this identity may not see it; there \
             is {}",
            client.host(),
            listed(&there)
        )));
    }
    let found = client
        .command_again(Endpoint::Engine, database, ".show tables")
        .await
        .map_err(connecting)?;
    let tables: Vec<&str> = (0..found.rows.len())
        .filter_map(|row| found.text(row, "TableName"))
        .collect();
    if !tables.contains(&table) {
        return Err(Fault::user(format!(
            "table {table:?} does not exist in database {database:?} of {}; there is {}",
            client.host(),
            listed(&tables)
        )));
    }
    let command = format!(".show table {} schema as json", quoted_name(table));
    let found = client
        .command_again(Endpoint::Engine, database, &command)
        .await
        .map_err(connecting)?;
    let schema = found.text(0, "Schema").unwrap_or_default();
    columns_of(schema).ok_or_else(|| {
        Fault::from(Error::Answer {
            what: command,
            host: client.host().to_owned(),
            reason: "it holds no schema".to_owned(),
        })
    })
}

/// Checks that the table has a JSON mapping of this name.
///
/// # Errors
/// User, listing the mappings there are.
pub(crate) async fn check_mapping(
    client: &Client,
    database: &str,
    table: &str,
    name: &str,
) -> Result<(), Fault> {
    let command = format!(".show table {} ingestion json mappings", quoted_name(table));
    let found = client
        .command_again(Endpoint::Engine, database, &command)
        .await
        .map_err(connecting)?;
    let names: Vec<&str> = (0..found.rows.len())
        .filter_map(|row| found.text(row, "Name"))
        .collect();
    if names.contains(&name) {
        return Ok(());
    }
    Err(Fault::user(format!(
        "table {table:?} of database {database:?} has no json mapping {name:?}; there is {}",
        listed(&names)
    )))
}

/// A failure while a sink connects: a cluster that cannot be reached now ends a run that begins.
fn connecting(error: Error) -> Fault {
    match error {
        Error::Unreachable { .. } | Error::Unknown { .. } => {
            Fault::new(Class::Unreachable, error.to_string())
        }
        Error::Setting(_)
        | Error::Option { .. }
        | Error::Untrusted { .. }
        | Error::Refused { .. }
        | Error::Login { .. }
        | Error::Answer { .. } => error.into(),
    }
}

fn listed(names: &[&str]) -> String {
    const SHOWN_MAX: usize = 10;
    match names.len() {
        0 => "none".to_owned(),
        n if n <= SHOWN_MAX => names.join(", "),
        n => {
            let shown: Vec<&str> = names.iter().take(SHOWN_MAX).copied().collect();
            format!("{} and {} more", shown.join(", "), n - SHOWN_MAX)
        }
    }
}

fn columns_of(schema: &str) -> Option<Vec<TargetColumn>> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    let columns = schema.get("OrderedColumns")?.as_array()?;
    (columns.iter())
        .map(|column| {
            Some(TargetColumn {
                name: column.get("Name")?.as_str()?.to_owned(),
                kind: column.get("CslType")?.as_str()?.to_owned(),
            })
        })
        .collect()
}

/// Checks that every column of the stream has one of its name and a type that holds its values.
///
/// # Errors
/// User, listing every column that does not fit and the command that would mend it.
pub(crate) fn check_fit(
    schema: &StreamSchema,
    table: &str,
    columns: &[TargetColumn],
) -> Result<(), Fault> {
    let mut missing = Vec::new();
    let mut wrong = Vec::new();
    let mut check = |name: &str, accepted: &[&str], shown: &str| {
        let Some(column) = columns.iter().find(|c| c.name == name) else {
            let kind = accepted.first().copied().unwrap_or("string");
            missing.push(format!("{}: {kind}", quoted_name(name)));
            return;
        };
        if !accepted.contains(&column.kind.as_str()) {
            wrong.push(format!(
                "column {name:?} is {} and the stream's is {shown}, which fits {}",
                column.kind,
                accepted.join(" or ")
            ));
        }
    };
    for column in &schema.columns {
        let shown = column.column_type.to_string();
        check(&column.name, accepted(&column.column_type), &shown);
    }
    if matches!(schema.kind, StreamKind::Changes { .. }) {
        check(CHANGE, &["string"], "the kind of change");
    }
    if !missing.is_empty() {
        wrong.insert(
            0,
            format!(
                "columns are missing: add them with `.alter-merge table {} ({})`",
                quoted_name(table),
                missing.join(", ")
            ),
        );
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Fault::user(format!(
            "table {table:?} does not fit the stream: {}",
            wrong.join("; ")
        ))),
    }
}

/// The types whose columns hold every value of `column`: the service turns a value that does not
/// fit into null without a word.
fn accepted(column: &ColumnType) -> &'static [&'static str] {
    match column {
        ColumnType::Bool => &["bool", "dynamic"],
        ColumnType::Int32 => &["int", "long", "real", "decimal", "dynamic"],
        ColumnType::Int64 => &["long", "decimal"],
        ColumnType::Float32 | ColumnType::Float64 => &["real", "dynamic"],
        ColumnType::Decimal { .. } => &["decimal"],
        ColumnType::String => &["string"],
        ColumnType::Binary => &["string"],
        ColumnType::Date | ColumnType::Timestamp => &["datetime", "string"],
        ColumnType::Json | ColumnType::List(_) => &["dynamic", "string"],
    }
}

/// The mapping of JSON rows to the table's columns. It names no types, so that the service never
/// adds a column by itself.
pub(crate) fn mapping(schema: &StreamSchema, columns: &[TargetColumn]) -> String {
    let has = |name: &str| columns.iter().any(|c| c.name == name);
    let mut names: Vec<&str> = schema.columns.iter().map(|c: &Column| &*c.name).collect();
    if matches!(schema.kind, StreamKind::Changes { .. }) {
        names.push(CHANGE);
    }
    // Event time is written wherever the table has a place for it.
    if schema.timed && has(EVENT_TIME) && !names.contains(&EVENT_TIME) {
        names.push(EVENT_TIME);
    }
    let entries: Vec<Value> = (names.iter())
        .map(|name| json!({ "column": name, "Properties": { "Path": path(name) } }))
        .collect();
    Value::from(entries).to_string()
}

/// The JSON path of a member, in brackets, so that dots and blanks in names mean nothing.
fn path(name: &str) -> String {
    format!("$['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use thalweg_stream::{Column, ColumnType, StreamSchema};

    use super::{TargetColumn, check_fit, columns_of, mapping};

    fn stream(columns: &[(&str, ColumnType)]) -> StreamSchema {
        let columns = columns.iter().map(|(n, t)| Column::new(*n, t.clone()));
        StreamSchema::append(columns.collect(), true)
    }

    fn table(columns: &[(&str, &str)]) -> Vec<TargetColumn> {
        (columns.iter())
            .map(|(name, kind)| TargetColumn {
                name: (*name).to_owned(),
                kind: (*kind).to_owned(),
            })
            .collect()
    }

    #[test]
    fn what_does_not_fit_is_listed_in_one_go() {
        let schema = stream(&[
            ("a", ColumnType::Int64),
            ("b", ColumnType::String),
            ("c d", ColumnType::Timestamp),
        ]);
        let fits = table(&[
            ("a", "long"),
            ("b", "string"),
            ("c d", "datetime"),
            ("x", "int"),
        ]);
        assert_eq!(check_fit(&schema, "T", &fits), Ok(()));
        let error = check_fit(&schema, "T", &table(&[("a", "int")])).expect_err("does not fit");
        let text = error.to_string();
        for part in [
            "['b']: string",
            "['c d']: datetime",
            "column \"a\" is int",
            "long or decimal",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn the_mapping_names_columns_and_paths_and_no_types() {
        let schema = stream(&[("a", ColumnType::Int64), ("c d", ColumnType::String)]);
        let columns = table(&[("a", "long"), ("c d", "string"), ("event_time", "datetime")]);
        assert_eq!(
            mapping(&schema, &columns),
            r#"[{"Properties":{"Path":"$['a']"},"column":"a"},{"Properties":{"Path":"$['c d']"},"column":"c d"},{"Properties":{"Path":"$['event_time']"},"column":"event_time"}]"#
        );
        let without = mapping(&schema, &table(&[]));
        assert!(!without.contains("event_time"), "{without}");
    }

    #[test]
    fn a_schema_is_read() {
        let schema = r#"{"Name":"T","OrderedColumns":[{"Name":"ts","Type":"System.DateTime","CslType":"datetime"}]}"#;
        assert_eq!(columns_of(schema), Some(table(&[("ts", "datetime")])));
        assert_eq!(columns_of("{}"), None);
    }
}
