//! The SDK that plugins are written with. Nothing of it is built yet.
