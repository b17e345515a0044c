//! A program that is nothing but the walker. Its panic handler calls a function that nobody has, so that linking fails as soon as
//! one call of the walker can panic: the linker drops what is not reached, and names who reached it otherwise.
//!
//! Run `cargo build --manifest-path runtime-init/link/Cargo.toml`, with and without `--release`. It is never started.
#![no_std]
#![no_main]

use coracle_init::{Memory, Network, walk};

unsafe extern "C" {
    fn the_walker_can_panic() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: never linked, so never called.
    unsafe { the_walker_can_panic() }
}

/// What core's unwinding tables point to in a build that is not optimised as a whole; nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// # Safety
/// As `main` of C: `argv` holds `argc` strings.
#[unsafe(no_mangle)]
unsafe extern "C" fn main(argc: i32, argv: *const *const u8) -> i32 {
    // SAFETY: made up; all that counts is that the linker cannot know what the arena holds.
    let arena = unsafe { core::slice::from_raw_parts(*argv, usize::try_from(argc).unwrap_or(0)) };
    if argc == 0 {
        Network::new().make();
    }
    let mut slots = [-1; 8];
    let mut words = [0; 64];
    walk(
        arena,
        Memory {
            slots: &mut slots,
            words: &mut words,
            report: 3,
            kept: &[0, 1, 2, 3],
            spare_stack: Some(4096),
            spare_tree: Some(4096),
        },
    )
}
