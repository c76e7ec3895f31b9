//! Management commands: databases, tables, mappings, extents, and what ingestion clients ask for.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::decode::{self, Format};
use crate::kql::{Parser, Placed, QueryError, Source, Tabular, Token, lex, run};
use crate::reply::{Reply, command_answer};
use crate::storage::{
    CONTAINERS, FAILURE_QUEUE, Outcome, READY_QUEUE, STATUS_TABLE, SUCCESS_QUEUE,
};
use crate::value::{Datum, Kind, TICKS_MS};
use crate::world::{Database, Extent, Table, World, columns};

/// What a command is run with.
#[derive(Debug)]
pub(crate) struct Command<'a> {
    pub(crate) database: &'a str,
    pub(crate) text: &'a str,
    /// How the client reached us, for the addresses we give out.
    pub(crate) base: &'a str,
    pub(crate) now_ms: i64,
}

enum Failure {
    Query(QueryError),
    Reply(Reply),
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

/// What a command gives, and whether it changed anything.
type Done = Result<(Tabular, bool), Failure>;

impl Command<'_> {
    /// Runs it.
    pub(crate) fn run(&self, world: &mut World) -> Outcome {
        let details = json!({ "db": self.database, "csl": self.text });
        match self.answer(world) {
            Ok((rows, applied)) => Outcome {
                applied,
                reply: Reply::json(200, &command_answer(&rows)),
                details,
            },
            Err(Failure::Query(error)) => Outcome {
                details,
                ..Outcome::refused(Reply::wrong_query(&error))
            },
            Err(Failure::Reply(reply)) => Outcome {
                details,
                ..Outcome::refused(reply)
            },
        }
    }

    fn answer(&self, world: &mut World) -> Done {
        if let Some((command, data)) = self.text.split_once("<|") {
            return self.ingest_inline(command, data, world);
        }
        let mut tokens = lex(self.text)?;
        // What follows the first bar is a query over what the command gives.
        let bar = tokens
            .iter()
            .position(|placed| placed.token == Token::Symbol("|"));
        let rest: Vec<Placed> = match bar {
            Some(at) => tokens.split_off(at),
            None => Vec::new(),
        };
        let mut parser = Parser::new(tokens);
        parser.symbol(".")?;
        let (given, applied) = self.dispatch(&mut parser, world)?;
        parser.end()?;
        let mut rest = Parser::new(rest);
        let steps = rest.steps()?;
        rest.end()?;
        Ok((
            run(&Source::Given, given, &steps, self.now_ms * TICKS_MS)?,
            applied,
        ))
    }

    fn dispatch(&self, parser: &mut Parser, world: &mut World) -> Done {
        let verb = parser.hyphenated()?;
        let noun = match parser.peek() {
            Some(_) => parser.name()?,
            None => String::new(),
        };
        match (verb.as_str(), noun.as_str()) {
            ("show", _) => self.show(&noun, parser, world).map(|rows| (rows, false)),
            ("get", "ingestion") => {
                parser.word("resources")?;
                Ok((self.resources(world), false))
            }
            ("get", "kusto") => {
                parser.word("identity")?;
                parser.word("token")?;
                let token = format!("standin-identity-{}", Uuid::new_v4());
                world.identities.push(token.clone());
                let columns = [("AuthorizationContext", Kind::String)];
                Ok((
                    Tabular::new(&columns, vec![vec![Datum::Text(token)]]),
                    false,
                ))
            }
            ("create", "database") => {
                let name = parser.name()?;
                let lenient = parser.skip_word("ifnotexists");
                if world.databases.contains_key(&name) && !lenient {
                    let message = format!("Database '{name}' already exists");
                    return Err(Failure::Reply(Reply::bad_request(&message)));
                }
                world.databases.entry(name.clone()).or_default();
                Ok((names("DatabaseName", [name.as_str()]), true))
            }
            (
                "create" | "create-merge" | "create-or-alter" | "alter-merge" | "drop" | "clear",
                "table",
            ) => self.change_table(&verb, parser, world),
            _ => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> Failure {
        let message = format!("command {:?} is not known to this stand-in", self.text);
        Failure::Reply(Reply::bad_request(&message))
    }

    fn ours<'w>(&self, world: &'w mut World) -> Result<&'w mut Database, Failure> {
        world
            .databases
            .get_mut(self.database)
            .ok_or_else(|| Failure::Reply(Reply::not_found("Database", self.database)))
    }

    fn table<'w>(&self, name: &str, world: &'w mut World) -> Result<&'w mut Table, Failure> {
        self.ours(world)?
            .tables
            .get_mut(name)
            .ok_or_else(|| Failure::Reply(Reply::not_found("Table", name)))
    }

    fn change_table(&self, verb: &str, parser: &mut Parser, world: &mut World) -> Done {
        let name = parser.name()?;
        if parser.skip_word("ingestion") {
            return self.create_mapping(verb, &name, parser, world);
        }
        match verb {
            "create" | "create-merge" | "alter-merge" => {
                let columns = columns(parser)?;
                let database = self.ours(world)?;
                match database.tables.get_mut(&name) {
                    Some(_) if verb == "create" => {
                        let message = format!("Table '{name}' already exists");
                        return Err(Failure::Reply(Reply::bad_request(&message)));
                    }
                    Some(table) => (table.merge_columns(columns))
                        .map_err(|message| Failure::Reply(Reply::bad_request(&message)))?,
                    None if verb == "alter-merge" => {
                        return Err(Failure::Reply(Reply::not_found("Table", &name)));
                    }
                    None => {
                        database.tables.insert(name.clone(), Table::new(columns));
                    }
                }
                let table = self.table(&name, world)?;
                Ok((schema_row(self.database, &name, table), true))
            }
            "drop" => {
                let lenient = parser.skip_word("ifexists");
                if self.ours(world)?.tables.remove(&name).is_none() && !lenient {
                    return Err(Failure::Reply(Reply::not_found("Table", &name)));
                }
                let left: Vec<String> = self.ours(world)?.tables.keys().cloned().collect();
                Ok((names("TableName", left.iter().map(String::as_str)), true))
            }
            "clear" => {
                parser.word("data")?;
                self.table(&name, world)?.extents.clear();
                Ok((names("Status", ["Succeeded"]), true))
            }
            _ => Err(self.unknown()),
        }
    }

    fn create_mapping(
        &self,
        verb: &str,
        table: &str,
        parser: &mut Parser,
        world: &mut World,
    ) -> Done {
        let kind = parser.name()?.to_lowercase();
        parser.word("mapping")?;
        let name = parser.text()?;
        let mut mapping = parser.text()?;
        // A long mapping may be cut into several strings.
        while matches!(parser.peek(), Some(Token::Text(_))) {
            mapping.push_str(&parser.text()?);
        }
        if let Err(message) = decode::Mapping::parse(&mapping) {
            return Err(Failure::Reply(Reply::bad_request(&message)));
        }
        let mappings = &mut self.table(table, world)?.mappings;
        let key = (kind.clone(), name.clone());
        if verb == "create" && mappings.contains_key(&key) {
            let message = format!("Mapping '{name}' already exists");
            return Err(Failure::Reply(Reply::bad_request(&message)));
        }
        mappings.insert(key, mapping.clone());
        Ok((mapping_rows([((&kind, &name), &mapping)]), true))
    }

    fn show(&self, noun: &str, parser: &mut Parser, world: &mut World) -> Result<Tabular, Failure> {
        let text = |text: &str| Datum::Text(text.to_owned());
        match noun {
            "version" => Ok(Tabular::new(
                &[
                    ("BuildVersion", Kind::String),
                    ("ServiceType", Kind::String),
                ],
                vec![vec![text("1.0.0.0"), text("Engine")]],
            )),
            "databases" => {
                let rows = world
                    .databases
                    .keys()
                    .filter(|name| *name != "NetDefaultDB");
                let rows = rows.map(|name| vec![text(name), text(name), text("ReadWrite")]);
                Ok(Tabular::new(
                    &[
                        ("DatabaseName", Kind::String),
                        ("PrettyName", Kind::String),
                        ("DatabaseAccessMode", Kind::String),
                    ],
                    rows.collect(),
                ))
            }
            "tables" => {
                let rows = self.ours(world)?.tables.keys();
                let rows = rows.map(|name| vec![text(name), text(self.database)]);
                Ok(Tabular::new(
                    &[("TableName", Kind::String), ("DatabaseName", Kind::String)],
                    rows.collect(),
                ))
            }
            "table" => self.show_table(parser, world),
            _ => Err(self.unknown()),
        }
    }

    fn show_table(&self, parser: &mut Parser, world: &mut World) -> Result<Tabular, Failure> {
        let name = parser.name()?;
        let what = parser.name()?;
        match what.as_str() {
            "cslschema" => Ok(schema_row(self.database, &name, self.table(&name, world)?)),
            "schema" => {
                parser.word("as")?;
                parser.word("json")?;
                Ok(json_schema_row(
                    self.database,
                    &name,
                    self.table(&name, world)?,
                ))
            }
            "extents" => {
                let mut tests = Vec::new();
                if parser.skip_word("where") {
                    loop {
                        parser.word("tags")?;
                        let test = parser.name()?;
                        tests.push((test, parser.text()?));
                        if !parser.skip_word("and") {
                            break;
                        }
                    }
                }
                extent_rows(self.database, &name, self.table(&name, world)?, &tests)
                    .ok_or_else(|| self.unknown())
            }
            "ingestion" => {
                let mut kind = parser.name()?.to_lowercase();
                if kind == "mappings" {
                    kind.clear();
                } else {
                    parser.word("mappings")?;
                }
                let mappings = self.table(&name, world)?.mappings.iter();
                Ok(mapping_rows(
                    mappings
                        .filter(|((of, _), _)| kind.is_empty() || *of == kind)
                        .map(|((kind, name), mapping)| ((kind, name), mapping)),
                ))
            }
            _ => Err(self.unknown()),
        }
    }

    fn resources(&self, world: &World) -> Tabular {
        let sas = world.stored.sas();
        let mut rows = vec![
            ("SecuredReadyForAggregationQueue", READY_QUEUE),
            ("SuccessfulIngestionsQueue", SUCCESS_QUEUE),
            ("FailedIngestionsQueue", FAILURE_QUEUE),
            ("IngestionsStatusTable", STATUS_TABLE),
        ];
        rows.extend(CONTAINERS.map(|container| ("TempStorage", container)));
        let rows = rows.into_iter().map(|(kind, path)| {
            vec![
                Datum::Text(kind.to_owned()),
                Datum::Text(format!("{}{path}?{sas}", self.base)),
            ]
        });
        Tabular::new(
            &[
                ("ResourceTypeName", Kind::String),
                ("StorageRoot", Kind::String),
            ],
            rows.collect(),
        )
    }

    /// `.ingest inline into table T <| csv`.
    fn ingest_inline(&self, command: &str, data: &str, world: &mut World) -> Done {
        let mut parser = Parser::new(lex(command)?);
        parser.symbol(".")?;
        for word in ["ingest", "inline", "into", "table"] {
            parser.word(word)?;
        }
        let name = parser.name()?;
        parser.end()?;
        let table = self.table(&name, world)?;
        let data = data.trim_start();
        let rows = decode::rows(
            Format::Csv(b','),
            data.as_bytes(),
            &table.columns,
            None,
            false,
        )
        .map_err(|failure| Failure::Reply(Reply::bad_request(&failure.details)))?;
        let id = Uuid::new_v4();
        table.extents.push(Extent {
            id,
            tags: Vec::new(),
            created: self.now_ms * TICKS_MS,
            blob: String::new(),
            bytes: data.len() as u64,
            rows,
        });
        Ok((names("ExtentId", [id.to_string().as_str()]), true))
    }
}

fn names<'n>(column: &str, names: impl IntoIterator<Item = &'n str>) -> Tabular {
    let rows = names
        .into_iter()
        .map(|name| vec![Datum::Text(name.to_owned())]);
    Tabular::new(&[(column, Kind::String)], rows.collect())
}

const SCHEMA_COLUMNS: [(&str, Kind); 5] = [
    ("TableName", Kind::String),
    ("Schema", Kind::String),
    ("DatabaseName", Kind::String),
    ("Folder", Kind::String),
    ("DocString", Kind::String),
];

fn schema_row(database: &str, name: &str, table: &Table) -> Tabular {
    let columns = table.columns.iter().map(|column| {
        let plain = column.name.chars().all(|c| c.is_alphanumeric() || c == '_');
        match plain {
            true => format!("{}:{}", column.name, column.kind.name()),
            false => format!("['{}']:{}", column.name, column.kind.name()),
        }
    });
    schema_of(database, name, columns.collect::<Vec<_>>().join(","))
}

fn json_schema_row(database: &str, name: &str, table: &Table) -> Tabular {
    let columns = table.columns.iter().map(|column| {
        json!({
            "Name": column.name,
            "Type": format!("System.{}", column.kind.clr_name()),
            "CslType": column.kind.name(),
        })
    });
    let schema = json!({ "Name": name, "OrderedColumns": columns.collect::<Vec<Value>>() });
    schema_of(database, name, schema.to_string())
}

fn schema_of(database: &str, name: &str, schema: String) -> Tabular {
    let row = [
        name.to_owned(),
        schema,
        database.to_owned(),
        String::new(),
        String::new(),
    ];
    Tabular::new(&SCHEMA_COLUMNS, vec![row.map(Datum::Text).into()])
}

fn extent_rows(
    database: &str,
    name: &str,
    table: &Table,
    tests: &[(String, String)],
) -> Option<Tabular> {
    let mut rows = Vec::new();
    for extent in &table.extents {
        let mut accepted = true;
        for (test, tag) in tests {
            let has = extent.tags.iter().any(|t| t.eq_ignore_ascii_case(tag));
            let contains = || {
                let wanted = tag.to_lowercase();
                extent
                    .tags
                    .iter()
                    .any(|t| t.to_lowercase().contains(&wanted))
            };
            accepted &= match test.as_str() {
                "has" => has,
                "!has" => !has,
                "contains" => contains(),
                "!contains" => !contains(),
                _ => return None,
            };
        }
        if accepted {
            rows.push(vec![
                Datum::Text(extent.id.to_string()),
                Datum::Text(database.to_owned()),
                Datum::Text(name.to_owned()),
                Datum::Time(extent.created),
                Datum::Real(extent.bytes as f64),
                Datum::Long(i64::try_from(extent.rows.len()).unwrap_or(i64::MAX)),
                Datum::Text(extent.tags.join("\r\n")),
                Datum::Text(extent.blob.clone()),
            ]);
        }
    }
    Some(Tabular::new(
        &[
            ("ExtentId", Kind::Guid),
            ("DatabaseName", Kind::String),
            ("TableName", Kind::String),
            ("MaxCreatedOn", Kind::DateTime),
            ("OriginalSize", Kind::Real),
            ("RowCount", Kind::Long),
            ("Tags", Kind::String),
            // Ours: where the rows came from.
            ("Blob", Kind::String),
        ],
        rows,
    ))
}

fn mapping_rows<'m>(
    mappings: impl IntoIterator<Item = ((&'m String, &'m String), &'m String)>,
) -> Tabular {
    let rows = mappings.into_iter().map(|((kind, name), mapping)| {
        [name, kind, mapping]
            .map(|text| Datum::Text(text.clone()))
            .into()
    });
    Tabular::new(
        &[
            ("Name", Kind::String),
            ("Kind", Kind::String),
            ("Mapping", Kind::String),
        ],
        rows.collect(),
    )
}
