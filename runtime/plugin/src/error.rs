//! Why a plugin cannot be used at all. What happens to single rows is in `trap.rs`.

use thalweg_stream::Fault;

/// Why a plugin cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// The file is not what it has to be: the user or the plugin's author must act.
    #[error("{0}")]
    Refused(String),
    /// Something around it failed, such as the process that compiles it.
    #[error("{0}")]
    Host(String),
}

impl PluginError {
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused(message.into())
    }
    pub(crate) fn host(message: impl Into<String>) -> Self {
        Self::Host(message.into())
    }
}

impl From<PluginError> for Fault {
    fn from(error: PluginError) -> Self {
        match error {
            PluginError::Refused(message) => Self::user(message),
            PluginError::Host(message) => Self::unavailable(message),
        }
    }
}
