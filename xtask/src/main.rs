//! Development commands. Not part of what is shipped.
//!
//! `cargo xtask tables DIR RELEASE` writes the system call tables (see [`tables`]).

mod tables;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn run(args: &[String]) -> Result<(), String> {
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tables", dir, release] => {
            let text = tables::generate(Path::new(dir), release)?;
            let to = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seccomp-profiles/src/table/data.rs");
            std::fs::write(&to, text).map_err(|e| format!("write {}: {e}", to.display()))
        }
        _ => Err("usage: cargo xtask tables DIR RELEASE".to_owned()),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done when stderr is gone.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
