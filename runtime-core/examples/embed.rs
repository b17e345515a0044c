//! Runs one program in a container and shows what it said.
//!
//! `embed ID BUNDLE`: the bundle's process must not want a terminal.

#![allow(clippy::print_stdout, reason = "a program for people")]

use coracle::{Bundle, Delete, Runtime, Stdio};
use std::io::Read;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (id, bundle) = args.next().zip(args.next()).ok_or("usage: embed ID BUNDLE")?;

    let runtime = Runtime::builder().root("/run/coracle-embed").build()?;
    let plan = runtime.create(&id.parse()?, Bundle::from_dir(bundle)?).stdio(Stdio::Pipes).plan()?;
    let mut created = plan.create()?;
    created.container.start()?;

    let mut said = String::new();
    if let Some(stdout) = created.io.stdout.take() {
        std::fs::File::from(stdout).read_to_string(&mut said)?;
    }
    let status = created.container.wait()?;
    created.container.delete(Delete::Stopped)?;
    print!("{said}");
    println!("{status:?}");
    Ok(())
}
