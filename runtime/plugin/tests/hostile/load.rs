//! Files that are no plugin, and plugins that cannot be used.

use std::path::PathBuf;
use std::time::Duration;

use thalweg_plugin::{Cache, Compile, Host, Limits, Plugin, PluginError};

use crate::guest::{CALL_TYPE, Data, Guest, moody};
use crate::{HOST, limits};

#[track_caller]
fn refused(component: &[u8], expected: &str) {
    match Plugin::load(&HOST, component, limits()) {
        Err(PluginError::Refused(message)) => assert!(message.contains(expected), "{message}"),
        other => panic!("{other:?}"),
    }
}

fn plain() -> Guest {
    Guest::new("g", Data::new(), "i32.const 0")
}

#[test]
fn files_that_are_no_components_are_refused() {
    refused(b"", "is no WebAssembly component");
    refused(b"#!/bin/sh\n", "is no WebAssembly component");
    let module = wat::parse_str("(module)").expect("a module");
    refused(&module, "is a plain WebAssembly module, not a component");
    refused(&vec![0; (8 << 20) + 1], "a plugin has at most 8 MiB");
    let whole = moody();
    for cut in [9, 100, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..cut], "");
    }
    let nothing = wat::parse_str("(component)").expect("a component");
    refused(
        &nothing,
        "does not export \"thalweg:udf/scalar@0.1.0\"; it exports nothing",
    );
}

#[test]
fn damaged_components_are_refused_or_harmless() {
    let whole = moody();
    // Every 7th byte, so that a run takes seconds; each is either refused or loads.
    for at in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        drop(Plugin::load(&HOST, &damaged, limits()));
    }
}

#[test]
fn imports_that_are_not_served_are_named() {
    let import = |imports: &'static str| Guest { imports, ..plain() }.build();
    let wasi = r#"(import "wasi:cli/environment@0.2.0" (instance
        (export "get-environment" (func (result (list (tuple string string)))))))"#;
    refused(
        &import(wasi),
        "imports \"wasi:cli/environment@0.2.0\": a plugin is given nothing but",
    );
    let plain = r#"(import "sleep" (func (param "ms" u32)))"#;
    refused(&import(plain), "imports \"sleep\"");
    let state = r#"(import "thalweg:udf/keyed-state@0.1.0" (instance
        (export "get" (func (param "keys" u32)))))"#;
    refused(
        &import(state),
        "imports \"get\" of \"thalweg:udf/keyed-state@0.1.0\"",
    );
    let newer = r#"(import "thalweg:udf/host@0.2.0" (instance))"#;
    refused(&import(newer), "imports \"thalweg:udf/host@0.2.0\"");
}

#[test]
fn host_functions_that_are_not_served_or_of_another_type_are_refused() {
    let component = |host: &str| {
        let text = format!(
            r#"(component (import "thalweg:udf/host@0.1.0" (instance {host}))
              (instance $scalar) (export "thalweg:udf/scalar@0.1.0" (instance $scalar)))"#
        );
        wat::parse_str(&text).expect("a component")
    };
    let later = r#"(export "watermark-ms" (func (result s64)))"#;
    refused(
        &component(later),
        "imports \"watermark-ms\" of \"thalweg:udf/host@0.1.0\"",
    );
    let other = r#"(export "log" (func (param "message" string)))"#;
    refused(&component(other), "does not fit the contract");
}

#[test]
fn exports_are_those_of_the_contract() {
    let export = |export: &'static str| Guest { export, ..plain() }.build();
    refused(
        &export("thalweg:udf/aggregate@0.1.0"),
        "exports \"thalweg:udf/aggregate@0.1.0\", which is not supported yet",
    );
    refused(
        &export("acme:math/scalar@0.1.0"),
        "does not export \"thalweg:udf/scalar@0.1.0\"",
    );
    let call_type = r#"(param "function" string) (param "arguments" (list $column))
        (param "rows" s32) (result (result $returned (error $failure)))"#;
    assert_ne!(call_type, CALL_TYPE);
    refused(
        &Guest {
            call_type,
            ..plain()
        }
        .build(),
        "call of thalweg:udf/scalar@0.1.0 is not",
    );
}

#[test]
fn descriptions_are_checked() {
    let functions = |functions: Vec<(&str, Vec<&'static str>, &'static str)>| {
        let functions = functions
            .into_iter()
            .map(|(n, a, r)| (n.as_bytes().to_vec(), a, r));
        Guest {
            functions: functions.collect(),
            ..plain()
        }
        .build()
    };
    refused(&functions(vec![]), "has no functions");
    refused(
        &functions(vec![("f", vec![], "g"), ("f", vec![], "l")]),
        "has two functions `f`",
    );
    for name in ["", "F", "1f", "f-g", "a b", "f;drop", &"f".repeat(64)] {
        refused(&functions(vec![(name, vec![], "g")]), "is no name");
    }
    refused(
        &functions(vec![("f", vec!["+l"], "g")]),
        "function `f`: argument `x` is of type \"+l\", which is not supported",
    );
    refused(
        &functions(vec![("f", vec![], "")]),
        "function `f`: its result is of type \"\"",
    );
    refused(
        &functions(vec![("f", vec!["g"; 101], "g")]),
        "has more than 100 arguments",
    );
    let unreadable = vec![(b"\xff".to_vec(), vec![], "g")];
    refused(
        &Guest {
            functions: unreadable,
            ..plain()
        }
        .build(),
        "cannot be started",
    );
}

#[test]
fn guests_that_misbehave_at_the_start_are_refused() {
    let start = |body: &str| {
        let module = format!("(func $begin {body}) (start $begin)");
        Guest { module, ..plain() }.build()
    };
    refused(
        &start("unreachable"),
        "cannot be started: wasm `unreachable` instruction executed",
    );
    refused(
        &start("(loop $ever (br $ever))"),
        "cannot be started: took longer than its deadline",
    );
    let described = |describe: &str| {
        Guest {
            describe: Some(describe.to_owned()),
            ..plain()
        }
        .build()
    };
    refused(
        &described("(loop $ever (br $ever)) unreachable"),
        "took longer than its deadline",
    );
    refused(
        &described("unreachable"),
        "cannot be started: wasm `unreachable` instruction executed",
    );
    refused(
        &described("i32.const -4"),
        "cannot be started: returned what cannot be read",
    );
    refused(
        &Guest {
            pages: 1_100,
            ..plain()
        }
        .build(),
        "memory limit of 64 MiB exceeded",
    );
    let module = "(table 30000 funcref)".to_owned();
    refused(
        &Guest { module, ..plain() }.build(),
        "limit of 20000 table elements exceeded",
    );
}

#[test]
fn compiled_code_is_kept_and_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = || Cache::open(&folder.path().join("cache")).expect("opens");
    let limits = Limits {
        deadline: Duration::from_millis(77),
        ..Limits::default()
    };
    let first = Host::new(Compile::Here, Some(cache())).expect("a host");
    let plugin = Plugin::load(&first, &moody(), limits).expect("loads");
    // This one cannot compile.
    let nowhere = Compile::Child {
        program: PathBuf::from("/nonexistent/program"),
        arguments: Vec::new(),
    };
    let second = Host::new(nowhere, Some(cache())).expect("a host");
    let again = Plugin::load(&second, &moody(), limits).expect("loads");
    assert_eq!(again.functions(), plugin.functions());
    let other = Plugin::load(&second, &plain().build(), limits);
    assert!(matches!(other, Err(PluginError::Host(_))), "{other:?}");
    // Damaged code is compiled anew.
    for entry in std::fs::read_dir(folder.path().join("cache")).expect("list") {
        let path = entry.expect("entry").path();
        let mut code = std::fs::read(&path).expect("read");
        let middle = code.len() / 2;
        code[middle] ^= 1;
        std::fs::write(&path, code).expect("write");
    }
    assert!(matches!(
        Plugin::load(&second, &moody(), limits),
        Err(PluginError::Host(_))
    ));
    Plugin::load(&first, &moody(), limits).expect("loads");
    Plugin::load(&second, &moody(), limits).expect("loads");
}
