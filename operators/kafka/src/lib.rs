//! The Kafka source. Nothing of it is built yet; definitions refuse `kafka`.
