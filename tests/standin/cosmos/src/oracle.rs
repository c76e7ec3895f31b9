//! Judges a ledger: did any document go back, did any fenced generation still write?

use std::collections::HashMap;

use serde_json::Value;
use thalweg_standin_ledger::Entry;

/// What is wrong with the history of documents in a ledger: nothing, if all is well.
///
/// For each document, over its applied writes in order:
/// - the version a write replaced is the one that the write before it made;
/// - within one lineage (and job and sink) the generation never falls;
/// - within one lineage the document's content never goes back, where content is ordered by
///   (`order`, `epoch`, `part`) of its stamp.
#[must_use]
pub fn violations(entries: &[Entry]) -> Vec<String> {
    let mut documents: HashMap<String, Seen> = HashMap::new();
    let mut wrong = Vec::new();
    for entry in entries
        .iter()
        .filter(|e| e.service == "cosmos" && e.applied)
    {
        let details = &entry.details;
        let writes = details.get("writes").and_then(Value::as_array);
        for write in writes.into_iter().flatten() {
            let id = write.get("id").and_then(Value::as_str).unwrap_or_default();
            let name = format!(
                "{} {} \"{id}\"",
                text(details.get("container")),
                details.get("partition_key").unwrap_or(&Value::Null)
            );
            let now = Seen::of(write);
            if let Some(before) = documents.get(&name) {
                wrong.extend(
                    now.after(before, write)
                        .into_iter()
                        .map(|what| format!("entry {}: document {name} {what}", entry.number)),
                );
            }
            documents.insert(name, now);
        }
    }
    wrong
}

#[derive(Debug)]
struct Seen {
    etag: Option<String>,
    history: Option<[String; 3]>,
    generation: u64,
    content: (String, u64, u64),
}

impl Seen {
    fn of(write: &Value) -> Self {
        let stamp = write.get("stamp").filter(|s| s.is_object());
        let get = |name: &str| stamp.and_then(|s| s.get(name));
        let number = |name: &str| get(name).and_then(Value::as_u64).unwrap_or_default();
        Self {
            etag: write.get("etag").and_then(Value::as_str).map(str::to_owned),
            history: stamp.map(|_| [text(get("job")), text(get("sink")), text(get("lineage"))]),
            generation: number("generation"),
            content: (text(get("order")), number("epoch"), number("part")),
        }
    }

    fn after(&self, before: &Self, write: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        let replaced = write.get("etag_before").and_then(Value::as_str);
        if replaced != before.etag.as_deref() {
            wrong.push(format!(
                "lost a write: {replaced:?} replaced, not {:?}",
                before.etag
            ));
        }
        if self.history.is_none() || self.history != before.history {
            return wrong;
        }
        let (old, new) = (before.generation, self.generation);
        if new < old {
            wrong.push(format!(
                "was written by generation {new} after generation {old}"
            ));
        }
        if self.content < before.content {
            wrong.push(format!(
                "went back from {:?} to {:?}",
                before.content, self.content
            ));
        }
        wrong
    }
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use thalweg_standin_ledger::Entry;

    use super::violations;

    fn write(etag: [&str; 2], generation: u64, order: &str, epoch: u64) -> Entry {
        let entry = json!({
            "number": 0, "at_ms": 0, "received_us": 0, "recorded_us": 0, "service": "cosmos",
            "operation": "replace", "target": "", "applied": true, "answered": 200,
            "details": { "container": "d/c", "partition_key": ["k"], "writes": [{
                "id": "a", "etag_before": etag[0], "etag": etag[1],
                "stamp": { "job": "j", "sink": "s", "lineage": "l", "generation": generation,
                           "epoch": epoch, "part": 0, "order": order } }] },
        });
        serde_json::from_value(entry).expect("an entry")
    }

    #[test]
    fn each_kind_of_wrong_is_found() {
        let first = write(["", "1"], 2, "05", 4);
        let check = |second: Entry| violations(&[first.clone(), second]);
        assert_eq!(check(write(["1", "2"], 2, "06", 3)), [""; 0]);
        assert_eq!(check(write(["1", "2"], 3, "05", 4)), [""; 0]);
        assert!(
            check(write(["1", "2"], 1, "06", 5))[0].contains("generation 1 after generation 2")
        );
        assert!(check(write(["1", "2"], 2, "04", 5))[0].contains("went back"));
        assert!(check(write(["1", "2"], 2, "05", 3))[0].contains("went back"));
        assert!(check(write(["0", "2"], 2, "06", 5))[0].contains("lost a write"));
    }
}
