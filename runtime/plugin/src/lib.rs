//! The host of plugins (wasmtime). Nothing of it is built yet; definitions refuse `plugins`.
