//! A loaded plugin: checked against the contract, its functions known.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use thalweg_stream::ColumnType;
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::cache;
use crate::error::PluginError;
use crate::host::Host;
use crate::instance::Ready;
use crate::limit::{COMPONENT_BYTES_MAX, FUNCTIONS_MAX, Limits, PARAMETERS_MAX};
use crate::trap::clean;
use crate::{notation, wire};

/// A function of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, without that of the plugin.
    pub name: String,
    /// What it does, in its author's words.
    pub doc: String,
    /// Its arguments: name and type.
    pub parameters: Vec<(String, ColumnType)>,
    /// The type of its result.
    pub result: ColumnType,
}

impl std::fmt::Display for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parameters: Vec<String> = (self.parameters.iter())
            .map(|(name, column_type)| format!("{name} {column_type}"))
            .collect();
        write!(
            f,
            "{}({}) {}",
            self.name,
            parameters.join(", "),
            self.result
        )
    }
}

/// A plugin that can be called.
#[derive(Clone)]
pub struct Plugin {
    pub(crate) ready: Ready,
    functions: Arc<[Function]>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("sha256", &self.sha256())
            .field("functions", &self.functions)
            .finish()
    }
}

/// The SHA-256 of a component, in hexadecimal: what a definition pins.
#[must_use]
pub fn sha256(component: &[u8]) -> String {
    let digest = Sha256::digest(component);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Plugin {
    /// Loads a component: compiles it unless that was done before, checks that it asks for nothing
    /// it is not given, and has it describe its functions.
    ///
    /// # Errors
    /// What is wrong with it, or with the surroundings it is compiled in.
    pub fn load(host: &Host, component: &[u8], limits: Limits) -> Result<Self, PluginError> {
        if component.len() > COMPONENT_BYTES_MAX {
            return Err(PluginError::refused(format!(
                "has {} bytes; a plugin has at most {} MiB",
                component.len(),
                COMPONENT_BYTES_MAX >> 20
            )));
        }
        recognise(component)?;
        let sha256: Arc<str> = sha256(component).into();
        let compiled = compiled(host, component, &sha256)?;
        check_imports(&host.engine, &compiled)?;
        check_exports(&host.engine, &compiled)?;
        // What the linker says beyond that names the import whose type is another one.
        let ready = Ready::new(host, &compiled, limits, sha256).map_err(|error| {
            PluginError::refused(format!("does not fit the contract: {}", error.root_cause()))
        })?;
        let start = |error: crate::trap::Failed| {
            PluginError::refused(format!("cannot be started: {}", error.message))
        };
        let mut instance = ready.instantiate().map_err(start)?;
        instance.check().map_err(start)?;
        let described = instance.describe().map_err(start)?;
        let functions = functions(described).map_err(PluginError::Refused)?;
        Ok(Self {
            ready,
            functions: functions.into(),
        })
    }

    /// Its functions, by name.
    #[must_use]
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The SHA-256 of its component, in hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        self.ready.sha256()
    }
}

/// What a component imports and exports by name, in its own order.
///
/// # Errors
/// If it is none.
pub fn interfaces(host: &Host, component: &[u8]) -> Result<[Vec<String>; 2], PluginError> {
    recognise(component)?;
    let compiled = compiled(host, component, &sha256(component))?;
    let shape = compiled.component_type();
    let imports = shape.imports(&host.engine).map(|(name, _)| clean(name));
    let exports = shape.exports(&host.engine).map(|(name, _)| clean(name));
    Ok([imports.collect(), exports.collect()])
}

/// Tells a component from what is easily taken for one.
fn recognise(component: &[u8]) -> Result<(), PluginError> {
    // The version of a module is 1, that of a component 13, in its own layer.
    let what = match component.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => return Ok(()),
        Some(b"\0asm\x01\0\0\0") => {
            "is a plain WebAssembly module, not a component; `thalweg plugin build` makes one"
        }
        _ => "is no WebAssembly component",
    };
    Err(PluginError::refused(what))
}

fn compiled(host: &Host, component: &[u8], sha256: &str) -> Result<Component, PluginError> {
    let name = cache::name(&host.engine, sha256);
    let kept = host.cache.as_ref().and_then(|cache| cache.load(&name));
    if let Some(code) = kept {
        match deserialize(&host.engine, &code) {
            Ok(component) => return Ok(component),
            Err(error) => tracing::warn!(%error, "a file in the plugin cache is replaced"),
        }
    }
    let code = host.compile.run(&host.engine, component)?;
    if let Some(cache) = &host.cache {
        cache.store(&name, &code);
    }
    deserialize(&host.engine, &code)
        .map_err(|error| PluginError::host(format!("compiled code cannot be loaded: {error}")))
}

#[allow(
    unsafe_code,
    reason = "compiled code cannot be loaded in any other way"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` is what our own compiler made: in this process, in the child process that we
    // started, or earlier, kept in a directory that nobody else can write to, its checksum verified
    // (see `cache`). The engine itself refuses code of another version or with other settings.
    unsafe { Component::deserialize(engine, code) }
}

/// The imports that a plugin may have; all it can ask of the world.
fn check_imports(engine: &Engine, component: &Component) -> Result<(), PluginError> {
    for (name, item) in component.component_type().imports(engine) {
        let served: &[&str] = match name {
            wire::TYPES => continue,
            wire::HOST => &["log"],
            wire::KEYED_STATE => &[],
            other if other.starts_with("thalweg:udf/") => {
                let name = clean(other);
                return Err(PluginError::refused(format!(
                    "imports {name:?}: this version of thalweg serves {}",
                    wire::HOST
                )));
            }
            other => {
                let name = clean(other);
                return Err(PluginError::refused(format!(
                    "imports {name:?}: a plugin is given nothing but {}, no clock, no randomness, \
                     no files and no network",
                    wire::HOST
                )));
            }
        };
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            return Err(PluginError::refused(format!(
                "imports {name:?}, which is an interface"
            )));
        };
        for (function, item) in instance.exports(engine) {
            let is_type = matches!(item.ty, ComponentItem::Type(_));
            if !is_type && !served.contains(&function) {
                let function = clean(function);
                return Err(PluginError::refused(format!(
                    "imports {function:?} of {name:?}, which is not served to functions yet"
                )));
            }
        }
    }
    Ok(())
}

/// It exports the one interface that is served; what else it exports is never called.
fn check_exports(engine: &Engine, component: &Component) -> Result<(), PluginError> {
    let shape = component.component_type();
    if shape.get_export(engine, wire::SCALAR).is_some() {
        return Ok(());
    }
    let exports: Vec<String> = shape.exports(engine).map(|(name, _)| clean(name)).collect();
    let later = exports
        .iter()
        .find(|name| wire::LATER.contains(&name.as_str()));
    Err(PluginError::refused(match later {
        Some(later) => format!("exports {later:?}, which is not supported yet"),
        None => format!(
            "does not export {:?}; it exports {}",
            wire::SCALAR,
            if exports.is_empty() {
                "nothing".to_owned()
            } else {
                exports.join(", ")
            }
        ),
    }))
}

fn functions(described: Vec<wire::Function>) -> Result<Vec<Function>, String> {
    if described.is_empty() {
        return Err("has no functions".to_owned());
    }
    if described.len() > FUNCTIONS_MAX {
        return Err(format!("has more than {FUNCTIONS_MAX} functions"));
    }
    let mut functions = (described.into_iter())
        .map(function)
        .collect::<Result<Vec<_>, _>>()?;
    functions.sort_by(|one, two| one.name.cmp(&two.name));
    for pair in functions.windows(2) {
        if let [one, two] = pair
            && one.name == two.name
        {
            return Err(format!("has two functions `{}`", one.name));
        }
    }
    Ok(functions)
}

fn function(described: wire::Function) -> Result<Function, String> {
    let name = named(described.name)?;
    let column_type = |text: &str, what: &str| {
        notation::column_type(text).ok_or_else(|| {
            format!(
                "function `{name}`: {what} is of type {:?}, which is not supported",
                clean(text)
            )
        })
    };
    if described.parameters.len() > PARAMETERS_MAX {
        return Err(format!(
            "function `{name}` has more than {PARAMETERS_MAX} arguments"
        ));
    }
    let mut parameters = Vec::with_capacity(described.parameters.len());
    for parameter in described.parameters {
        let named = named(parameter.name).map_err(|error| format!("function `{name}`: {error}"))?;
        let column_type = column_type(&parameter.notation, &format!("argument `{named}`"))?;
        parameters.push((named, column_type));
    }
    let result = column_type(&described.result, "its result")?;
    let doc = (described.properties.iter()).find(|property| property.name == "doc");
    Ok(Function {
        doc: doc.map(|doc| clean(&doc.value)).unwrap_or_default(),
        parameters,
        result,
        name,
    })
}

/// A name as the contract has them: it goes into errors, metrics and SQL as it is.
fn named(name: String) -> Result<String, String> {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_lowercase());
    let rest = letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if first && rest && name.len() <= 63 {
        return Ok(name);
    }
    Err(format!(
        "{:?} is no name: names match [a-z][a-z0-9_]{{0,62}}",
        clean(&name)
    ))
}
