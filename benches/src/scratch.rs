//! Bundles for whole commands, in a directory of their own.
//!
//! Must not: run anything in them.

use crate::{default_config, docker_config, with_program};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Code of `exit(0)` and of an endless `pause()`, and the machine's number in an ELF header.
const CODE: (u16, &[u8], &[u8]) = if cfg!(target_arch = "aarch64") {
    (
        183,
        &[0x00, 0x00, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4],
        // ppoll(0, 0, 0, 0): there is no pause.
        &[
            0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2,
            0x28, 0x09, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xfa, 0xff, 0xff, 0x17,
        ],
    )
} else {
    (
        62,
        &[0x31, 0xff, 0xb8, 0xe7, 0x00, 0x00, 0x00, 0x0f, 0x05],
        &[0xb8, 0x22, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xeb, 0xf7],
    )
};

/// The smallest static program: one segment, no library, nothing to page in.
fn program(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let len = HEADERS + code.len() as u64;
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2_u16, CODE.0] {
        out.extend(half.to_le_bytes());
    }
    out.extend(1_u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        out.extend(word.to_le_bytes());
    }
    out.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    out.extend(1_u32.to_le_bytes());
    out.extend(5_u32.to_le_bytes());
    for word in [0, BASE, BASE, len, len, 0x1000] {
        out.extend(word.to_le_bytes());
    }
    out.extend(code);
    out
}

/// Bundles of containers that wait side by side: what they share is nobody's private memory.
pub const WAITING: [&str; 4] = ["pause", "pause2", "pause3", "pause4"];

/// Bundles in a temporary directory; removed when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::process::Command::new("rm").arg("-rf").args([&self.0, &self.state()]).status();
        // Ours alone, and empty: a runtime that failed may have left its directory.
        let top = PathBuf::from(format!("/sys/fs/cgroup{}", cgroup()));
        for left in fs::read_dir(&top).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(left.path());
        }
        let _ = fs::remove_dir(top);
    }
}

/// Where the containers' control groups are.
pub fn cgroup() -> String {
    format!("/coracle-bench-{}", std::process::id())
}

impl Scratch {
    /// Makes the bundles; with `payload`, the static test program, one more of each that runs it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn new(payload: Option<&Path>) -> std::io::Result<Self> {
        let scratch = Self(std::env::temp_dir().join(format!("coracle-bench-{}", std::process::id())));
        let rootfs = scratch.0.join("rootfs");
        for folder in ["bin", "dev", "proc", "sys", "etc", "tmp"] {
            fs::create_dir_all(rootfs.join(folder))?;
        }
        for (name, code) in [("true", CODE.1), ("pause", CODE.2)] {
            fs::write(rootfs.join("bin").join(name), program(code))?;
            fs::set_permissions(rootfs.join("bin").join(name), fs::Permissions::from_mode(0o755))?;
        }
        if let Some(payload) = payload {
            fs::copy(payload, rootfs.join("bin/payload"))?;
        }
        for (config, document) in [("spec", default_config()), ("docker", docker_config())] {
            for name in ["true", "payload"].into_iter().chain(WAITING) {
                let bundle = scratch.bundle(config, name);
                fs::create_dir_all(&bundle)?;
                let place = format!("{}/{config}-{name}", cgroup());
                let mut document = with_program(
                    document.clone(),
                    &format!("/bin/{}", name.trim_end_matches(char::is_numeric)),
                    &place,
                );
                document["root"]["path"] = json!(rootfs);
                if name == "payload" {
                    document["process"]["args"] = json!(["/bin/payload", "report"]);
                }
                fs::write(bundle.join("config.json"), document.to_string())?;
            }
        }
        Ok(scratch)
    }

    /// The bundle of a configuration (`spec`, `docker`) with this program.
    pub fn bundle(&self, config: &str, name: &str) -> PathBuf {
        self.0.join(format!("{config}-{name}"))
    }

    /// Where runtimes keep what they know of containers: in `/run`, as they do by themselves. On a disk everybody would be charged with the
    /// same waits for it, who is fast most of all.
    pub fn state(&self) -> PathBuf {
        Path::new("/run").join(self.0.file_name().unwrap_or_default())
    }
}
