//! The plugins of a job, by the names that its definition gives them.

use std::collections::BTreeMap;

use crate::caller::Caller;
use crate::plugin::{Function, Plugin};

/// The plugins of a job.
#[derive(Clone, Debug, Default)]
pub struct PluginSet {
    plugins: BTreeMap<String, Plugin>,
}

impl PluginSet {
    /// Adds a plugin under a name; the last one of a name stays.
    pub fn insert(&mut self, name: &str, plugin: Plugin) {
        self.plugins.insert(name.to_owned(), plugin);
    }

    /// Whether there is a plugin of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.plugins.contains_key(name)
    }

    /// All functions, under the names that expressions call them by: `plugin.function`.
    pub fn functions(&self) -> impl Iterator<Item = (String, &Function)> {
        self.plugins.iter().flat_map(|(name, plugin)| {
            let qualified = move |function: &Function| format!("{name}.{}", function.name);
            plugin
                .functions()
                .iter()
                .map(move |function| (qualified(function), function))
        })
    }

    /// The function that an expression calls by this name.
    #[must_use]
    pub fn function(&self, qualified: &str) -> Option<&Function> {
        self.find(qualified).map(|(_, function)| function)
    }

    /// A caller of the function, for one worker.
    #[must_use]
    pub fn caller(&self, qualified: &str) -> Option<Caller> {
        let (plugin, function) = self.find(qualified)?;
        Some(Caller::new(plugin, function))
    }

    fn find(&self, qualified: &str) -> Option<(&Plugin, &Function)> {
        let (plugin, function) = qualified.split_once('.')?;
        let plugin = self.plugins.get(plugin)?;
        let function = plugin.functions().iter().find(|f| f.name == function)?;
        Some((plugin, function))
    }
}
