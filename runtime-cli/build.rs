//! The static program begins at `coracle_start` (`runtime-core/src/sys/early.rs`) instead of at the C library's `_start`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    // In other programs the linker's relocations of the first instructions are not known to be done; there `main` does the work.
    if is("TARGET", "x86_64-unknown-linux-musl") && is("PROFILE", "release") {
        println!("cargo::rustc-link-arg-bins=-e");
        println!("cargo::rustc-link-arg-bins=coracle_start");
    }
}
