//! Benchmarks beside peers. None is written yet.
