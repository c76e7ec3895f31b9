//! The schema describes what the parser asks for, no more and no less.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{SCHEMA, page};
use crate::fields::asked;
use crate::tree::{Node, Parsed, Value, parse};
use crate::{LoadOptions, Resolver, check};

type Json = serde_json::Value;

struct Anything;

impl Resolver for Anything {
    fn env(&self, _: &str) -> Option<String> {
        Some("http://localhost:1".to_owned())
    }
    fn file(&self, _: &Path) -> Result<String, String> {
        Ok("x".to_owned())
    }
}

/// Definitions that together use every mapping there is.
fn definitions() -> Vec<(String, String)> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let examples = here.join("../../examples");
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in [here.join("src/tests"), here.join("src/reference")] {
        let entries = std::fs::read_dir(folder).expect("the folder");
        files.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    for example in std::fs::read_dir(examples).expect("the examples") {
        files.push(example.expect("an entry").path().join("job.yaml"));
    }
    files.retain(|file| file.extension().is_some_and(|e| e == "yaml") && file.exists());
    files.sort();
    (files.into_iter())
        .map(|file| {
            let text = std::fs::read_to_string(&file).expect("readable");
            (file.display().to_string(), text)
        })
        .collect()
}

/// Follows references.
fn resolve<'a>(schema: &'a Json, mut node: &'a Json) -> &'a Json {
    while let Some(reference) = node["$ref"].as_str() {
        let name = reference.trim_start_matches("#/$defs/");
        node = &schema["$defs"][name];
        assert!(!node.is_null(), "there is no {reference}");
    }
    node
}

/// The mappings of a document, and the parts of the schema that describe them.
fn pair<'a>(
    schema: &'a Json,
    part: &'a Json,
    node: &Node,
    pairs: &mut Vec<((usize, usize), &'a Json)>,
) {
    let part = resolve(schema, part);
    let Value::Map(entries) = &node.value else {
        return;
    };
    let part = match part["anyOf"].as_array() {
        None => part,
        Some(choices) => {
            let choices = choices.iter().map(|choice| resolve(schema, choice));
            let mapping = choices.rev().find(|c| c["type"] == "object");
            mapping.unwrap_or(&Json::Null)
        }
    };
    if part["properties"].is_object() {
        pairs.push(((node.span.line, node.span.column), part));
    }
    for entry in entries {
        let named = part["properties"].get(&entry.key);
        let inner = named.unwrap_or(&part["additionalProperties"]);
        if inner.is_object() {
            pair(schema, inner, &entry.value, pairs);
        }
    }
}

#[test]
fn parser_and_schema_know_the_same_fields() {
    let schema: Json = serde_json::from_str(SCHEMA).expect("JSON");
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (name, text) in definitions() {
        let Ok(Parsed { root: tree, .. }) = parse(&text) else {
            continue;
        };
        asked::taken();
        let options = LoadOptions {
            set: Vec::new(),
            resolver: &Anything,
        };
        drop(check(&text, &name, Path::new("."), &options));
        let asked: BTreeMap<_, _> = asked::taken()
            .into_iter()
            .map(|asked| ((asked.span.line, asked.span.column), asked))
            .collect();
        let mut pairs = Vec::new();
        pair(&schema, &schema, &tree, &mut pairs);
        for (place, part) in pairs {
            let Some(asked) = asked.get(&place) else {
                continue;
            };
            let properties = part["properties"].as_object().expect("properties");
            let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            let title = part["title"].as_str().expect("a title");
            assert_eq!(
                described, asked.built,
                "{title}: schema.json (left) and what the parser asks for (right), by {name} {place:?}"
            );
            let secret: BTreeSet<&str> = (properties.iter())
                .filter(|(_, field)| field["writeOnly"] == true)
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(
                secret, asked.secret,
                "{title}: fields that hold credentials"
            );
            assert!(described.is_disjoint(&asked.later), "{title}");
            seen.insert(title.to_owned());
        }
    }
    let all: BTreeSet<String> = (schema["$defs"].as_object().expect("definitions").values())
        .chain([&schema])
        .filter_map(|part| part["title"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        all, seen,
        "every mapping of the schema (left) is used by a definition of src/reference or examples"
    );
}

#[test]
fn every_field_is_described() {
    let schema: Json = serde_json::from_str(SCHEMA).expect("JSON");
    let parts = schema["$defs"].as_object().expect("definitions").values();
    for part in parts.chain([&schema]) {
        assert!(part["description"].is_string(), "{part}");
        let titled = part["title"].is_string();
        let properties = part["properties"].as_object();
        assert_eq!(
            titled,
            properties.is_some(),
            "a mapping has a title: {part}"
        );
        for (name, field) in properties.into_iter().flatten() {
            let said = field["description"].as_str().unwrap_or_default();
            assert!(said.ends_with('.'), "`{name}` has no description: {field}");
        }
        if titled && part["title"] != "A job" {
            assert_eq!(part["additionalProperties"], false, "{part}");
        }
    }
}

#[test]
fn page_is_that_of_the_schema() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/job-reference.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, page()).expect("docs can be written");
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        text,
        page(),
        "docs/job-reference.md is stale: run `make docs`"
    );
}
