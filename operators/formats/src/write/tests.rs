//! Every type as JSON text, and that it reads back.
