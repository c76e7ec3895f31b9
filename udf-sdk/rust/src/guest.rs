//! The component's side of the contract: what the host calls, and the log it serves.

use std::sync::Once;

use crate::column::{Blobs, Column, Failure, Failures, Returned};
use crate::function;
use crate::value::Level;

#[allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::all,
    reason = "generated from the contract, where it is documented"
)]
mod bindings {
    wit_bindgen::generate!({ world: "scalar-plugin", path: "../wit" });
}

use bindings::exports::thalweg::udf::scalar as wire;
use bindings::exports::thalweg::udf::scalar::Guest;
use bindings::thalweg::udf::{host, types};

struct Plugin;

#[allow(unsafe_code, reason = "the exports of a component have fixed names")]
mod export {
    use super::{Plugin, bindings};
    bindings::export!(Plugin with_types_in bindings);
}

pub(crate) fn log(level: Level, message: &str) {
    host::log(level as u8, message);
}

/// A panic ends in a trap, which carries no text: the text goes ahead of it.
fn tell_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let text = panic.payload_as_str().unwrap_or("a panic without a text");
            let place = panic
                .location()
                .map(|at| format!(" ({}:{})", at.file(), at.line()));
            log(
                Level::Error,
                &format!("{text}{}", place.unwrap_or_default()),
            );
        }));
    });
}

impl Guest for Plugin {
    fn describe() -> Vec<types::Function> {
        tell_panics();
        let parameter = |p: &function::Parameter| types::Parameter {
            name: p.name.to_owned(),
            type_: p.kind.to_owned(),
        };
        let describe = |f: &function::Function| types::Function {
            name: f.name.to_owned(),
            parameters: f.parameters.iter().map(parameter).collect(),
            result: f.result.to_owned(),
            properties: vec![types::Property {
                name: "doc".to_owned(),
                value: f.doc.to_owned(),
            }],
        };
        function::all().into_iter().map(describe).collect()
    }

    fn call(
        function: String,
        arguments: Vec<types::Column>,
        rows: u32,
    ) -> Result<wire::Returned, types::Failure> {
        tell_panics();
        let arguments: Vec<Column> = arguments.into_iter().map(Column::from).collect();
        match function::call(&function, &arguments, rows as usize) {
            Ok(Returned { values, failed }) => Ok(wire::Returned {
                values: values.into(),
                failed: failed.into(),
            }),
            Err(Failure { row, message }) => Err(types::Failure { row, message }),
        }
    }
}

impl From<types::Column> for Column {
    fn from(column: types::Column) -> Self {
        Self {
            kind: column.type_,
            validity: column.validity,
            offsets: column.offsets,
            bytes: column.bytes,
        }
    }
}

impl From<Column> for types::Column {
    fn from(column: Column) -> Self {
        Self {
            type_: column.kind,
            validity: column.validity,
            offsets: column.offsets,
            bytes: column.bytes,
        }
    }
}

impl From<Failures> for types::Failures {
    fn from(failures: Failures) -> Self {
        let Blobs { offsets, bytes } = failures.messages;
        Self {
            rows: failures.rows,
            messages: types::Blobs { offsets, bytes },
        }
    }
}
