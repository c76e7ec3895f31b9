//! Credentials never show.

use std::collections::BTreeMap;
use std::path::Path;

use super::Fixed;
use crate::{Checked, LoadOptions, check};

const CANARY: &str = "canary-5Zq/+==\"x";

fn checked(text: &str, set: &[(&str, &str)]) -> Checked {
    let resolver = Fixed(BTreeMap::from([("CANARY", CANARY), ("DATA", "./data")]));
    let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let options = LoadOptions {
        set: set.collect(),
        resolver: &resolver,
    };
    check(text, "job.yaml", Path::new("."), &options)
}

/// What is shown of a definition: its diagnostics, for people and for machines.
fn shown(text: &str, set: &[(&str, &str)]) -> String {
    let checked = checked(text, set);
    let diagnostics = checked.document.diagnostics(checked.found);
    let machine = serde_json::to_string(&diagnostics).expect("JSON");
    let person = diagnostics.render(true);
    assert!(!person.is_empty(), "each of these has something wrong");
    person + &machine
}

const COSMOS: &str = "\
job: hidden
sources:
  events: { generate: { what: fleet }, schema: { device_id: string } }
sinks:
  out:
    from: events
    cosmos: { endpoint: \"https://a.documents.azure.com\", database: d, container: c, id: device_id, partition_key: device_id, KEY }
";

#[test]
fn credentials_show_in_no_diagnostic() {
    let literal = "c4n4ry-in-clear-text";
    let lines = [
        // A literal beside an error, before and behind it; quoted, plain, over several lines.
        "key: c4n4ry-in-clear-text, idd: x",
        "idd: x, key: \"c4n4ry-in-clear-text\"",
        "idd: x, key: 'c4n4ry-in-clear-text'",
        "idd: x, key:\n      c4n4ry-in-clear-text",
        // A credential in the wrong form, under the wrong name, twice, of an unknown connector.
        "key: [c4n4ry-in-clear-text]",
        "kye: c4n4ry-in-clear-text",
        "token: c4n4ry-in-clear-text",
        "connection_string: c4n4ry-in-clear-text",
        "key: a, key: c4n4ry-in-clear-text",
        // YAML that ends in the middle.
        "key: \"c4n4ry-in-clear-text",
        "key: c4n4ry-in-clear-text: x",
        // Quoted so that text and value differ.
        "idd: x, key: \"c4n4ry\\x2din-clear-text\"",
    ];
    for line in lines {
        let all = shown(&COSMOS.replace("KEY", line), &[]);
        assert!(
            !all.contains(literal) && !all.contains("x2din-clear"),
            "{line}: {all}"
        );
    }
    // What stands under a key that is there already is no part of the definition, and not shown.
    let twice = "key: a }\n  out: { from: nowhere, cosmos: { key: c4n4ry-in-clear-text }";
    let all = shown(&COSMOS.replace("KEY", twice), &[]);
    assert!(
        all.contains("`out` is there already") && !all.contains(literal),
        "{all}"
    );
    let mqtt = "mqtt: { url: x, password: c4n4ry-in-clear-text }";
    let text = COSMOS.replace("generate: { what: fleet }", mqtt);
    let all = shown(&text.replace("KEY", "key: \"${env:DATA}\""), &[]);
    assert!(!all.contains(literal), "{all}");
    let set = [
        ("sinks.out.cosmos.key", literal),
        ("sinks.out.cosmos.idd", "x"),
    ];
    let all = shown(&COSMOS.replace(", KEY", ""), &set);
    assert!(!all.contains(literal), "{all}");
}

#[test]
fn substituted_secrets_show_in_no_diagnostic() {
    let lines = [
        "key: \"${secret:CANARY}\", idd: x",
        "request_units: \"${secret:CANARY}\"",
        "timestamps: \"${secret:CANARY}\"",
        "newest_by: \"a${secret:CANARY}b\", nulls: x",
        "id2: \"${secret:CANARY}\"",
    ];
    for line in lines {
        let text = COSMOS.replace("KEY", line);
        let all = shown(&text, &[]);
        assert!(!all.contains("canary-5Zq"), "{line}: {all}");
    }
    let refused = [
        ("job", "${secret:CANARY}"),
        ("sources.events.schema.x", "${secret:CANARY}"),
        (
            "steps.s",
            "{ from: events, filter: \"device_id = '${secret:CANARY}'\" }",
        ),
        (
            "sources.f",
            "{ file: { path: \"${secret:CANARY}\" }, schema: { x: string } }",
        ),
        ("sinks.s", "{ from: \"${secret:CANARY}\", discard: }"),
    ];
    for (path, value) in refused {
        let all = shown(&COSMOS.replace(", KEY", ""), &[(path, value)]);
        assert!(all.contains("a secret cannot stand here"), "{path}: {all}");
        assert!(!all.contains("canary-5Zq"), "{path}: {all}");
    }
}

#[test]
fn a_literal_credential_is_a_warning_and_no_error() {
    let text = COSMOS.replace("KEY", "key: c4n4ry");
    let cosmos = checked(&text, &[]);
    assert!(!format!("{:?}", cosmos.definition).contains("c4n4ry"));
    let diagnostics = cosmos.document.diagnostics(cosmos.found);
    assert!(diagnostics.only_warnings());
    expect_test::expect![[r#"
        job.yaml:7:131: warning: `key` is a credential and is written out
        7 |     cosmos: { endpoint: "https://a.documents.azure.com", database: d, container: c, id: device_id, partition_key: device_id, key: ****** }
          |                                                                                                                                   ^^^^^^
          = hint: take it from outside: ${secret:NAME} or ${file:PATH}
    "#]]
    .assert_eq(&diagnostics.render(false));
    for key in ["${secret:CANARY}", "${env:CANARY}", "${file:where.txt}"] {
        let line = format!("key: \"{key}\"");
        let checked = checked(&COSMOS.replace("KEY", &line), &[]);
        assert!(checked.found.is_empty(), "{key}: {:?}", checked.found);
    }
}
