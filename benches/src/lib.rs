//! Process and criterion benchmarks live in benches/.
