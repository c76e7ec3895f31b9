//! The status table: Insert, Get and Merge of entities.

use serde_json::{Map, Value, json};

use crate::reply::Reply;
use crate::storage::{Outcome, Request, Stored, stamped};

/// An entity and its version.
#[derive(Clone, Debug)]
pub(crate) struct Entity {
    fields: Map<String, Value>,
    version: u64,
}

impl Entity {
    fn etag(&self) -> String {
        format!("W/\"{}\"", self.version)
    }
}

impl Stored {
    pub(super) fn entity_request(&mut self, request: &Request, rest: &str) -> Outcome {
        match request.method.as_str() {
            "POST" if rest.is_empty() => self.insert(request),
            "GET" => match keys(rest).and_then(|keys| self.entities.get(&keys)) {
                Some(entity) => {
                    let body = Value::from(entity.fields.clone());
                    let details = json!({ "id": entity.fields.get("RowKey"),
                        "status": entity.fields.get("Status") });
                    let reply = Reply::json(200, &body).with("etag", entity.etag());
                    Outcome::applied(stamped(reply, request), details)
                }
                None => Outcome::error(404, "ResourceNotFound"),
            },
            "PATCH" | "MERGE" => {
                let Some(keys) = keys(rest) else {
                    return Outcome::error(400, "InvalidInput");
                };
                let Some(Value::Object(fields)) = parsed(request) else {
                    return Outcome::error(400, "InvalidInput");
                };
                let Some(entity) = self.entities.get(&keys) else {
                    return Outcome::error(404, "ResourceNotFound");
                };
                let wanted = request.header("if-match").unwrap_or("*");
                if wanted != "*" && wanted != entity.etag() {
                    return Outcome::error(412, "UpdateConditionNotSatisfied");
                }
                let id = keys.1.clone();
                self.merge(&keys, fields);
                let reply = Reply::empty(204);
                Outcome::applied(stamped(reply, request), json!({ "id": id }))
            }
            _ => Outcome::error(400, "UnsupportedOperation"),
        }
    }

    fn insert(&mut self, request: &Request) -> Outcome {
        let Some(Value::Object(mut fields)) = parsed(request) else {
            return Outcome::error(400, "InvalidInput");
        };
        // Types are told beside values and not kept.
        fields.retain(|name, _| !name.ends_with("@odata.type"));
        let key = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let (Some(partition), Some(row)) = (key("PartitionKey"), key("RowKey")) else {
            return Outcome::error(400, "PropertiesNeedValue");
        };
        let details = json!({ "id": row });
        let keys = (partition, row);
        if self.entities.contains_key(&keys) {
            return Outcome::error(409, "EntityAlreadyExists");
        }
        self.entities.insert(keys, Entity { fields, version: 1 });
        Outcome::applied(stamped(Reply::empty(204), request), details)
    }

    /// Changes fields of an entity, or makes it.
    pub(crate) fn merge(&mut self, keys: &(String, String), fields: Map<String, Value>) {
        let entity = self.entities.entry(keys.clone()).or_insert_with(|| Entity {
            fields: Map::from_iter([
                ("PartitionKey".to_owned(), Value::from(keys.0.as_str())),
                ("RowKey".to_owned(), Value::from(keys.1.as_str())),
            ]),
            version: 0,
        });
        entity.version += 1;
        entity.fields.extend(fields);
    }
}

fn parsed(request: &Request) -> Option<Value> {
    serde_json::from_slice(&request.body).ok()
}

/// `(PartitionKey='…',RowKey='…')`; a quote is doubled.
fn keys(rest: &str) -> Option<(String, String)> {
    let inner = rest.strip_prefix("(PartitionKey='")?.strip_suffix("')")?;
    let (partition, row) = inner.split_once("',RowKey='")?;
    Some((partition.replace("''", "'"), row.replace("''", "'")))
}
