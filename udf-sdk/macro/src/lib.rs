//! The attribute macros of the plugin SDK. Nothing of them is built yet.
