//! Samples, and the table that they become.
//!
//! Must not: run anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Samples of one row: by name of the runtime.
pub type Row = BTreeMap<String, Vec<f64>>;

/// Rows in the order in which they were first seen.
#[derive(Debug, Default)]
pub struct Samples {
    rows: Vec<(String, Row)>,
}

impl Samples {
    /// Adds one sample.
    pub fn add(&mut self, row: &str, runtime: &str, value: f64) {
        let at = match self.rows.iter().position(|(name, _)| name == row) {
            Some(at) => at,
            None => {
                self.rows.push((row.to_owned(), Row::new()));
                self.rows.len() - 1
            }
        };
        self.rows[at].1.entry(runtime.to_owned()).or_default().push(value);
    }

    /// Markdown: the sample at `part` of the sorted ones (a half: the median) in the rows' own units and, for each runtime but the
    /// baseline, its share of the baseline.
    pub fn table(&self, runtimes: &[String], baseline: &str, part: f64) -> String {
        let mut out = String::from("| |");
        let others: Vec<&String> = runtimes.iter().filter(|name| *name != baseline).collect();
        for name in runtimes {
            let _ = write!(out, " {name} |");
        }
        for name in &others {
            let _ = write!(out, " {name} : {baseline} |");
        }
        let _ = writeln!(out, "\n|---|{}", "---:|".repeat(runtimes.len() + others.len()));
        for (name, row) in &self.rows {
            let _ = write!(out, "| {name} |");
            let value = |runtime: &str| row.get(runtime).and_then(|samples| quantile(samples, part));
            for runtime in runtimes {
                match value(runtime) {
                    Some(value) if value >= 100.0 => drop(write!(out, " {value:.0} |")),
                    Some(value) => drop(write!(out, " {value:.2} |")),
                    None => out.push_str(" - |"),
                }
            }
            for runtime in &others {
                match (value(runtime), value(baseline)) {
                    (Some(value), Some(base)) if base > 0.0 => drop(write!(out, " {:.2} |", value / base)),
                    _ => out.push_str(" - |"),
                }
            }
            out.push('\n');
        }
        out
    }
}

/// The sample at `part` of the sorted ones, from 0 to 1.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length is an index")]
fn quantile(samples: &[f64], part: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() as f64 * part) as usize).copied()
}
