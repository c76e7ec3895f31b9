//! Everything the service holds: databases with their tables, extents and mappings, and storage.
//! All of it in memory; it outlives the clients, not the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::kql::{Parser, QueryError, Tabular, lex};
use crate::storage::Stored;
use crate::value::{Datum, Kind};

/// The whole world of one stand-in.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) databases: BTreeMap<String, Database>,
    pub(crate) stored: Stored,
    /// Identity tokens that were given out.
    pub(crate) identities: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Database {
    pub(crate) tables: BTreeMap<String, Table>,
}

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) columns: Vec<TableColumn>,
    pub(crate) extents: Vec<Extent>,
    /// Mappings by (kind, name), as JSON text.
    pub(crate) mappings: BTreeMap<(String, String), String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What one ingestion added. Never merged, so that rows can be traced to blob and tag.
#[derive(Debug)]
pub(crate) struct Extent {
    pub(crate) id: Uuid,
    pub(crate) tags: Vec<String>,
    /// When it was made, in ticks.
    pub(crate) created: i64,
    /// The blob its rows came from.
    pub(crate) blob: String,
    /// Bytes before compression.
    pub(crate) bytes: u64,
    pub(crate) rows: Vec<Arc<[Datum]>>,
}

impl World {
    /// A world with what `create` names: `DATABASE` or `DATABASE/TABLE(column:type, …)`.
    pub(crate) fn new(create: &[String]) -> Result<Self, String> {
        let mut world = Self {
            databases: BTreeMap::new(),
            stored: Stored::new(),
            identities: Vec::new(),
        };
        // Where commands run that are about no database in particular.
        world
            .databases
            .insert("NetDefaultDB".to_owned(), Database::default());
        for text in create {
            let (database, table) = match text.split_once('/') {
                Some((database, table)) => (database, Some(table)),
                None => (text.as_str(), None),
            };
            let database = world.databases.entry(database.to_owned()).or_default();
            if let Some(table) = table {
                let (name, columns) = table_text(table)
                    .map_err(|error| format!("{text:?} is not DATABASE/TABLE(…): {error}"))?;
                database.tables.insert(name, Table::new(columns));
            }
        }
        Ok(world)
    }

    pub(crate) fn table(&self, database: &str, table: &str) -> Option<&Table> {
        self.databases.get(database)?.tables.get(table)
    }

    pub(crate) fn table_mut(&mut self, database: &str, table: &str) -> Option<&mut Table> {
        self.databases.get_mut(database)?.tables.get_mut(table)
    }
}

impl Table {
    pub(crate) fn new(columns: Vec<TableColumn>) -> Self {
        Self {
            columns,
            extents: Vec::new(),
            mappings: BTreeMap::new(),
        }
    }

    /// Whether an extent carries `tag`.
    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.extents
            .iter()
            .any(|extent| extent.tags.iter().any(|t| t == tag))
    }

    /// Adds the columns that are not there yet.
    ///
    /// # Errors
    /// If one is there with another type.
    pub(crate) fn merge_columns(&mut self, columns: Vec<TableColumn>) -> Result<(), String> {
        for column in columns {
            match self.columns.iter().find(|c| c.name == column.name) {
                Some(there) if there.kind != column.kind => {
                    return Err(format!(
                        "Column '{}' is {} and cannot become {}",
                        column.name,
                        there.kind.name(),
                        column.kind.name()
                    ));
                }
                Some(_) => {}
                None => {
                    let missing = Datum::missing(column.kind);
                    for row in self.extents.iter_mut().flat_map(|extent| &mut extent.rows) {
                        *row = row.iter().cloned().chain([missing.clone()]).collect();
                    }
                    self.columns.push(column);
                }
            }
        }
        Ok(())
    }

    /// Its rows. With `about_extents` each also says what is known of its extent.
    pub(crate) fn rows(&self, about_extents: bool) -> Tabular {
        let mut columns: Vec<(&str, Kind)> = self
            .columns
            .iter()
            .map(|column| (&*column.name, column.kind))
            .collect();
        if about_extents {
            columns.push(("$extent_tags", Kind::Dynamic));
            columns.push(("$ingestion_time", Kind::DateTime));
            columns.push(("$extent_id", Kind::Guid));
        }
        let mut rows = Tabular::new(&columns, Vec::new());
        for extent in &self.extents {
            if !about_extents {
                rows.rows.extend(extent.rows.iter().cloned());
                continue;
            }
            let about = [
                Datum::Dynamic(extent.tags.clone().into()),
                Datum::Time(extent.created),
                Datum::Text(extent.id.to_string()),
            ];
            rows.rows.extend(
                (extent.rows.iter()).map(|row| row.iter().chain(&about).cloned().collect()),
            );
        }
        rows
    }
}

/// `Name (column:type, …)`.
fn table_text(text: &str) -> Result<(String, Vec<TableColumn>), QueryError> {
    let mut parser = Parser::new(lex(text)?);
    let name = parser.name()?;
    let columns = columns(&mut parser)?;
    parser.end()?;
    Ok((name, columns))
}

/// `(column:type, …)`.
pub(crate) fn columns(parser: &mut Parser) -> Result<Vec<TableColumn>, QueryError> {
    parser.symbol("(")?;
    let mut columns = Vec::new();
    loop {
        let name = parser.name()?;
        parser.symbol(":")?;
        let kind = parser.name()?;
        let kind = kind
            .parse()
            .map_err(|()| parser.error(&format!("unknown type {kind:?}")))?;
        columns.push(TableColumn { name, kind });
        if !parser.skip_symbol(",") {
            parser.symbol(")")?;
            return Ok(columns);
        }
    }
}
