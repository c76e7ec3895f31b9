//! The JSON Schema of definitions, and the page `docs/job-reference.md` that is made from it.
//!
//! The schema is written by hand, a line per field; a test walks every definition there is and
//! compares, mapping by mapping, what the parser asks for with what the schema describes.

use std::fmt::Write as _;

use crate::tree::{Entry, Node, Parsed, Value, parse};

/// The JSON Schema (draft 2020-12) of job definitions.
pub const SCHEMA: &str = include_str!("schema.json");

/// The page `docs/job-reference.md`, made from the schema.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Job reference\n\nEverything a job definition can say. This page is made from the JSON \
         Schema that `thalweg schema` prints; [concepts.md](concepts.md) explains the words.\n\n",
    );
    let Ok(Parsed { root: schema, .. }) = parse(SCHEMA) else {
        return page;
    };
    page.push_str(RULES);
    section(&schema, &schema, &mut page);
    for entry in entries(&schema, "$defs") {
        if child(&entry.value, "title").is_some() {
            section(&schema, &entry.value, &mut page);
        }
    }
    page
}

const RULES: &str = "\
- Durations are written `250ms`, `10s`, `5m`, `1h30m`, `7d`, signed ones also `-8h`; sizes `64KiB`, `512MiB`, `4GiB`.
- `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` are replaced inside values. So is
  `${secret:NAME}`, which takes the environment variable NAME and keeps its value out of everything
  that is shown or stored. It may stand in connectors and stores; in names, columns and expressions,
  which are shown, it is refused. A field marked *secret* holds a credential: written out literally,
  it is a warning.
- `--set path.to.field=value` overrides a field.
- Relative paths start at the definition's folder.
- Expressions are SQL scalar expressions (DataFusion's), checked and typed before the job starts.
  Names are taken as written: `deviceId` needs no quotes. The name `event_time` is reserved: it is
  every row's event time. A row for which an expression fails is a dead letter, as where `lpad`,
  `rpad` or `repeat` would make a string longer than it was and than 64 KiB.
- A definition has at most 1 MiB, 500 steps and 64 levels of nesting, itself the first;
  names have at most 63 characters; an expression has at most 100 operators in a row and about
  50 parentheses in one another. What exceeds a limit is refused with an error that names it.
- What the schema does not know is an error, with the nearest name there is. Of more than 200 errors
  the rest is counted.

";

fn section(schema: &Node, node: &Node, page: &mut String) {
    // Writing to a string cannot fail.
    let title = text(node, "title");
    writeln!(page, "## {title}\n\n{}\n", text(node, "description")).ok();
    let required: Vec<&str> = items(node, "required").filter_map(scalar).collect();
    writeln!(
        page,
        "| field | value | default | meaning |\n|---|---|---|---|"
    )
    .ok();
    for field in entries(node, "properties") {
        let name = &field.key;
        let default = match child(&field.value, "default") {
            Some(default) => scalar(default).unwrap_or_default().to_owned(),
            None if required.contains(&name.as_str()) => "*required*".to_owned(),
            None => String::new(),
        };
        let secret = match text(&field.value, "writeOnly") {
            "true" => "*secret* ",
            _ => "",
        };
        let meaning = text(&field.value, "description");
        let value = value(schema, &field.value);
        writeln!(
            page,
            "| `{name}` | {secret}{value} | {default} | {meaning} |"
        )
        .ok();
    }
    page.push('\n');
}

/// What a field takes, in a few words.
fn value(schema: &Node, field: &Node) -> String {
    if let Some(reference) = child(field, "$ref").and_then(scalar) {
        let name = reference.trim_start_matches("#/$defs/");
        let target = child(schema, "$defs").and_then(|defs| child(defs, name));
        return match target {
            Some(target) if child(target, "title").is_some() => {
                let title = text(target, "title");
                let anchor: String = (title.to_lowercase().chars())
                    .filter(|c| c.is_alphanumeric() || *c == ' ')
                    .map(|c| if c == ' ' { '-' } else { c })
                    .collect();
                format!("[{}](#{anchor})", title.to_lowercase().replace('`', ""))
            }
            Some(target) => match name {
                "name" | "text" | "secret" | "count" | "number" => name.to_owned(),
                "texts" => "name or list of names".to_owned(),
                "names" => "name, list or mapping of names".to_owned(),
                "renames" | "metadata" => "mapping of names".to_owned(),
                "assignments" => "mapping of expressions".to_owned(),
                "schema" => "mapping of [columns](#columns)".to_owned(),
                "share" => "0 to 1".to_owned(),
                "flag" => "`true`, `false`".to_owned(),
                "nothing" => "nothing".to_owned(),
                _ => {
                    let words = words(target);
                    if words.is_empty() {
                        name.to_owned()
                    } else {
                        words
                    }
                }
            },
            None => name.to_owned(),
        };
    }
    let words = words(field);
    if !words.is_empty() {
        return words;
    }
    match entries(field, "additionalProperties").first() {
        Some(_) => {
            let inner = child(field, "additionalProperties");
            let inner = inner.map(|inner| value(schema, inner)).unwrap_or_default();
            format!("mapping of {inner}")
        }
        None => text(field, "type").to_owned(),
    }
}

/// The words a field is one of, and what else it may be.
fn words(field: &Node) -> String {
    let mut words = Vec::new();
    for choice in items(field, "anyOf").chain([field]) {
        let constant = child(choice, "const").into_iter();
        for word in items(choice, "enum").chain(constant) {
            words.extend(scalar(word).map(|word| format!("`{word}`")));
        }
        let reference = text(choice, "$ref").trim_start_matches("#/$defs/");
        if !reference.is_empty() && reference != "substitution" && child(field, "anyOf").is_some() {
            words.push(reference.to_owned());
        }
    }
    let has_words = words.iter().any(|word| word.starts_with('`'));
    if has_words {
        words.join(", ")
    } else {
        String::new()
    }
}

fn child<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let entry = entries.iter().find(|entry| entry.key == name);
    entry.map(|entry| &entry.value)
}

fn entries<'a>(node: &'a Node, name: &str) -> &'a [Entry] {
    match child(node, name).map(|node| &node.value) {
        Some(Value::Map(entries)) => entries,
        _ => &[],
    }
}

fn items<'a>(node: &'a Node, name: &str) -> impl Iterator<Item = &'a Node> + use<'a> {
    let items: &[Node] = match child(node, name).map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    };
    items.iter()
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        Value::List(_) | Value::Map(_) => None,
    }
}

fn text<'a>(node: &'a Node, name: &str) -> &'a str {
    child(node, name).and_then(scalar).unwrap_or_default()
}

#[cfg(test)]
mod tests;
