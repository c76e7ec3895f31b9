//! The contract's types as they cross (`udf-sdk/wit`), and the names of its interfaces.

use wasmtime::component::{ComponentType, Lift, Lower};

pub(crate) const TYPES: &str = "thalweg:udf/types@0.1.0";
pub(crate) const HOST: &str = "thalweg:udf/host@0.1.0";
pub(crate) const KEYED_STATE: &str = "thalweg:udf/keyed-state@0.1.0";
pub(crate) const SCALAR: &str = "thalweg:udf/scalar@0.1.0";
/// What the contract has besides, and this host does not serve yet.
pub(crate) const LATER: [&str; 2] = ["thalweg:udf/aggregate@0.1.0", "thalweg:udf/operator@0.1.0"];

/// A column on its way in.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Argument<'a> {
    #[component(name = "type")]
    pub(crate) notation: &'a str,
    pub(crate) validity: Option<&'a [u8]>,
    pub(crate) offsets: &'a [u8],
    pub(crate) bytes: &'a [u8],
}

/// A column on its way out.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Column {
    #[component(name = "type")]
    pub(crate) notation: String,
    pub(crate) validity: Option<Vec<u8>>,
    pub(crate) offsets: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Blobs {
    pub(crate) offsets: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Failures {
    pub(crate) rows: Vec<u8>,
    pub(crate) messages: Blobs,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Returned {
    pub(crate) values: Column,
    pub(crate) failed: Failures,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Failure {
    pub(crate) row: Option<u32>,
    pub(crate) message: String,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) value: String,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    #[component(name = "type")]
    pub(crate) notation: String,
}

#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) result: String,
    pub(crate) properties: Vec<Property>,
}

/// What `scalar.call` answers.
pub(crate) type Answer = (Result<Returned, Failure>,);
