//! `thalweg plugin new | build | inspect`.

mod build;
mod template;

use std::path::Path;

use serde_json::{Value, json};
use thalweg_plugin::{
    COMPONENT_BYTES_MAX, Cache, Compile, Function, Host, Limits, Plugin, compile_in_child,
    interfaces, sha256,
};
use thalweg_stream::Fault;

use crate::Failure;
use crate::command::{PluginArguments, PluginCommand};
use crate::terminal::print;

pub(crate) fn plugin(arguments: &PluginArguments) -> Result<(), Failure> {
    match &arguments.command {
        PluginCommand::New { name, dir, json } => template::new(name, dir.as_deref(), *json),
        PluginCommand::Build { dir, out, json } => build::build(dir, out.as_deref(), *json),
        PluginCommand::Inspect { file, json } => inspect(file, *json),
        PluginCommand::Compile => compile_in_child().map_err(Failure::Plain),
    }
}

/// How this program compiles plugins: in a child process of its own.
pub(crate) fn compile() -> Result<Compile, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Fault::unavailable(format!("this program cannot be found: {error}")))?;
    Ok(Compile::Child {
        program,
        arguments: vec!["plugin".to_owned(), "compile".to_owned()],
    })
}

/// A plugin file that has been looked into.
struct Inspected {
    bytes: usize,
    sha256: String,
    functions: Vec<Function>,
    imports: Vec<String>,
}

impl Inspected {
    fn of(file: &Path) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::User(format!("{} {what}", file.display()));
        let unreadable = |error: std::io::Error| wrong(format!("cannot be read: {error}"));
        let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
        if bytes > COMPONENT_BYTES_MAX as u64 {
            let most = COMPONENT_BYTES_MAX >> 20;
            return Err(wrong(format!(
                "has {bytes} bytes; a plugin has at most {most} MiB"
            )));
        }
        let component = std::fs::read(file).map_err(unreadable)?;
        let host = Host::new(compile()?, Cache::of_user()).map_err(Fault::from)?;
        let load = |error: thalweg_plugin::PluginError| {
            Failure::Fault(Fault::from(error).within(file.display()))
        };
        let [imports, _] = interfaces(&host, &component).map_err(load)?;
        let plugin = Plugin::load(&host, &component, Limits::default()).map_err(load)?;
        Ok(Self {
            bytes: component.len(),
            sha256: sha256(&component),
            functions: plugin.functions().to_vec(),
            imports,
        })
    }

    fn json(&self, file: &Path) -> Value {
        let functions = self.functions.iter().map(|function| {
            let parameters = (function.parameters.iter())
                .map(|(name, column_type)| json!({ "name": name, "type": column_type }));
            json!({
                "name": function.name,
                "parameters": parameters.collect::<Vec<_>>(),
                "result": function.result,
                "doc": function.doc,
            })
        });
        json!({
            "path": file,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "functions": functions.collect::<Vec<_>>(),
            "imports": self.imports,
        })
    }

    fn text(&self, file: &Path) -> String {
        let mut text = format!(
            "{}: {} bytes\nsha256     {}\nimports    {}\nfunctions\n",
            file.display(),
            self.bytes,
            self.sha256,
            self.imports.join(", ")
        );
        for function in &self.functions {
            text.push_str(&format!("  {function}\n"));
            if !function.doc.is_empty() {
                text.push_str(&format!("      {}\n", function.doc));
            }
        }
        text
    }
}

fn inspect(file: &Path, json: bool) -> Result<(), Failure> {
    let inspected = Inspected::of(file)?;
    Ok(print(&match json {
        true => format!("{}\n", inspected.json(file)),
        false => inspected.text(file),
    })?)
}
