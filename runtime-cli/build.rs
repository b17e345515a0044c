//! How the static program is linked: where it begins, and what is left out of the file.
//!
//! Other programs (development builds, other targets) are linked as ever; everything here is about start-up and size.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=layout.ld");
    println!("cargo::rerun-if-changed=order.ld");
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_ENV", "musl") {
        return;
    }
    // The release profile says panic = "abort".
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    link(&format!("-T{here}/order.ld"));
    link(&format!("-T{here}/layout.ld"));
    link("--no-eh-frame-hdr");
    // Relative relocations in a packed table. The C library of older compilers, musl 1.2.3, does not know it when it relocates itself.
    if minor_version().is_some_and(|minor| minor >= 93) {
        link("--pack-dyn-relocs=relr");
    }
    // `coracle_start` (`runtime-core/src/sys/early.rs`) instead of the C library's `_start`. In other programs the linker's
    // relocations of the first instructions are not known to be done; there `main` does the work.
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        link("-ecoracle_start");
    }
}

fn is(name: &str, value: &str) -> bool {
    std::env::var(name).is_ok_and(|found| found == value)
}

fn link(argument: &str) {
    println!("cargo::rustc-link-arg-bins={argument}");
}

/// The compiler's version, 93 for 1.93.0.
fn minor_version() -> Option<u32> {
    let output = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.strip_prefix("rustc 1.")?.split('.').next()?.parse().ok()
}
