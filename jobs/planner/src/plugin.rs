//! The plugins of a job: loaded when it is planned, their functions offered to expressions.

use std::time::Duration;

use arrow::array::ArrayRef;
use thalweg_definition::{Definition, Diagnostic, Plugin as Named, Spanned};
use thalweg_expr::{FunctionCaller, FunctionShape, Functions};
use thalweg_plugin::{
    COMPONENT_BYTES_MAX, Cache, Caller, Compile, Host, Limits, Plugin, PluginSet, sha256,
};
use thalweg_stream::{Evaluated, Fault, Figures};

/// Loads the plugins of a definition; what is wrong with one is told where it is named.
pub(crate) fn load(
    definition: &Definition,
    compile: &Compile,
    found: &mut Vec<Diagnostic>,
) -> PluginSet {
    let mut set = PluginSet::default();
    if definition.plugins.is_empty() {
        return set;
    }
    let host = match Host::new(compile.clone(), Cache::of_user()) {
        Ok(host) => host,
        Err(error) => {
            let at = definition.plugins.iter().map(|plugin| plugin.name.span);
            found.extend(at.map(|at| Diagnostic::error(at, error.to_string())));
            return set;
        }
    };
    for named in &definition.plugins {
        let Some(path) = &named.path else { continue };
        match one(definition, named, path, &host) {
            Ok(plugin) => set.insert(&named.name.value, plugin),
            Err(diagnostic) => found.push(diagnostic),
        }
    }
    set
}

fn one(
    definition: &Definition,
    named: &Named,
    file: &Spanned<String>,
    host: &Host,
) -> Result<Plugin, Diagnostic> {
    let name = &named.name.value;
    let wrong = |what: String| {
        let message = format!("plugin `{name}`: {} {what}", file.value);
        Diagnostic::error(file.span, message)
    };
    let path = definition.folder.join(&file.value);
    let metadata =
        std::fs::metadata(&path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if metadata.len() > COMPONENT_BYTES_MAX as u64 {
        let most = COMPONENT_BYTES_MAX >> 20;
        return Err(wrong(format!(
            "has {} bytes; a plugin has at most {most} MiB",
            metadata.len()
        )));
    }
    let component =
        std::fs::read(&path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let actual = sha256(&component);
    let Some(pinned) = &named.sha256 else {
        let message = format!("plugin `{name}` has no `sha256`");
        let error = Diagnostic::error(named.name.span, message);
        return Err(error.hint(format!("that of {} is {actual}", file.value)));
    };
    if !pinned.value.eq_ignore_ascii_case(&actual) {
        let message = format!(
            "plugin `{name}`: {} is another file than was pinned",
            file.value
        );
        let error = Diagnostic::error(pinned.span, message);
        return Err(error.hint(format!("its sha256 is {actual}")));
    }
    let default = Limits::default();
    let memory = named
        .memory_bytes
        .and_then(|bytes| usize::try_from(bytes).ok());
    let limits = Limits {
        memory_bytes: memory.unwrap_or(default.memory_bytes),
        deadline: named
            .deadline_ms
            .map_or(default.deadline, Duration::from_millis),
    };
    Plugin::load(host, &component, limits).map_err(|error| wrong(error.to_string()))
}

/// The functions of the plugins, as expressions see them.
pub(crate) struct PluginFunctions(pub(crate) PluginSet);

impl Functions for PluginFunctions {
    fn shape(&self, name: &str) -> Option<FunctionShape> {
        let function = self.0.function(name)?;
        Some(FunctionShape {
            arguments: function.parameters.clone(),
            result: function.result.clone(),
        })
    }

    fn names(&self) -> Vec<String> {
        self.0.functions().map(|(name, _)| name).collect()
    }

    fn caller(&self, name: &str) -> Result<Box<dyn FunctionCaller>, Fault> {
        let caller = self.0.caller(name);
        let caller = caller.ok_or_else(|| Fault::bug(format!("there is no function {name:?}")))?;
        Ok(Box::new(PluginCaller(caller)))
    }
}

struct PluginCaller(Caller);

impl FunctionCaller for PluginCaller {
    fn call(&mut self, arguments: &[ArrayRef], rows: usize) -> Result<Evaluated, Fault> {
        self.0.call(arguments, rows)
    }

    fn figures(&self, figures: &mut dyn Figures) {
        let tally = self.0.tally();
        figures.total("plugin_calls_total", &[], tally.calls);
        for (kind, count) in tally.failed() {
            figures.total("plugin_traps_total", &[kind], count);
        }
        figures.level("plugin_seconds", &[], tally.cpu.as_secs_f64());
        figures.level("plugin_memory_bytes", &[], tally.memory_bytes as f64);
        figures.fact("plugin_info", &[self.0.sha256()]);
    }
}
