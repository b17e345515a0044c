//! What mutations start from: real documents and well-formed messages.
//!
//! Files of `seeds/NAME` are inputs that once broke a promise, or are hard to come by. The rest is taken from where it already is.
//!
//! Must not: depend on the machine; the order is always the same.

use std::path::{Path, PathBuf};

use coracle_init::program::{Bytes, HEADER_LEN, Header, STEP_LEN, Slot, Step, Str, StrList};
use coracle_init::wire::{Kind, Message};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(mut files: Vec<PathBuf>) -> Vec<Vec<u8>> {
    files.sort();
    files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The seeds of a target.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let mut out = files(list(&root().join("seeds").join(name)));
    match name {
        "spec_load" | "plan" => {
            let cases = list(&root().join("../tests/plans"));
            out.extend(files(cases.iter().map(|case| case.join("config.json")).collect()));
        }
        "record" => {
            let data = list(&root().join("../runtime-core/tests/data"));
            let is_record = |file: &PathBuf| file.to_string_lossy().contains("record");
            out.extend(files(data.into_iter().filter(is_record).collect()));
        }
        "mount_options" => {
            let known: Vec<&str> = coracle::validate::known_options().collect();
            out.extend(known.chunks(6).map(|words| words.join("\n").into_bytes()));
            out.push(b"mode=755\nsize=64k\nro\nlowerdir=/a:/b".to_vec());
        }
        "wire" => out.extend(wire()),
        "dbus" => out.push(signal()),
        "program" => out.push(program()),
        _ => {}
    }
    out
}

/// A signal with a text in its body.
fn signal() -> Vec<u8> {
    let mut fields = vec![3, 1, b's', 0, 10, 0, 0, 0];
    fields.extend(b"JobRemoved\0\0\0\0\0\0");
    fields.extend([8, 1, b'g', 0, 2, b'u', b's', 0]);
    let mut out = vec![b'l', 4, 1, 1, 11, 0, 0, 0, 7, 0, 0, 0, 32, 0, 0, 0];
    out.extend(fields);
    out.extend([5, 0, 0, 0, 2, 0, 0, 0, b'o', b'k', 0]);
    out
}

fn wire() -> Vec<Vec<u8>> {
    (0..=u16::MAX)
        .filter_map(Kind::from_number)
        .map(|kind| {
            let mut message = Message::plain(kind);
            message.detail.fill(b'x');
            message.encode().to_vec()
        })
        .collect()
}

/// A small arena with a step of each shape.
fn program() -> Vec<u8> {
    let text = Str { off: 64, len: 3 };
    let list = StrList { off: 72, count: 1 };
    let raw = Bytes { off: 80, len: 72 };
    let slot = Slot(1);
    let steps = [
        Step::NonDumpable,
        Step::NewFs { fstype: text, source: text, options: list, attrs: 2, out: slot },
        Step::Attach { tree: slot, target: text, flags: 0 },
        Step::Hook { hook: raw, index: 0 },
        Step::Exec { argv: list, env: list },
    ];
    let mut out = vec![0_u8; HEADER_LEN];
    out.extend_from_slice(b"abc\0\0\0\0\0");
    out.extend_from_slice(&64_u32.to_ne_bytes());
    out.extend_from_slice(&3_u32.to_ne_bytes());
    out.resize(152, 0);
    let steps_at = out.len();
    for (index, step) in (0_u32..).zip(&steps) {
        let (op, words) = step.encode();
        out.extend_from_slice(&op.to_ne_bytes());
        out.extend_from_slice(&index.to_ne_bytes());
        words.iter().for_each(|word| out.extend_from_slice(&word.to_ne_bytes()));
    }
    let number = |n: usize| u32::try_from(n).expect("it is small");
    assert_eq!(out.len(), steps_at + steps.len() * STEP_LEN);
    let header = Header {
        total: number(out.len()),
        steps: number(steps.len()),
        slots: 2,
        words: 8,
        steps_at: number(steps_at),
    };
    out[..HEADER_LEN].copy_from_slice(&header.encode());
    out
}
