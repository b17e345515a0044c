//! The resolver against pathrs on the same trees, its creations looked at from outside, and a race.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::vec::Vec;
use std::{format, vec};

use super::*;

struct Tree {
    path: PathBuf,
    top: fs::File,
}

impl Tree {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("coracle-path-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let root = path.join("root");
        fs::create_dir(&root).unwrap();
        Self { top: fs::File::open(root).unwrap(), path }
    }

    fn base(&self) -> Base {
        Base::new(self.top.as_raw_fd())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join("root").join(name)
    }

    fn dir(&self, name: &str) -> &Self {
        fs::create_dir_all(self.at(name)).unwrap();
        self
    }

    fn file(&self, name: &str) -> &Self {
        fs::write(self.at(name), name).unwrap();
        self
    }

    fn link(&self, name: &str, target: impl AsRef<Path>) -> &Self {
        symlink(target, self.at(name)).unwrap();
        self
    }

    /// Directories, files, good links, loops, dangling ones, and links that try to leave.
    fn full(name: &str) -> Self {
        let tree = Self::new(name);
        tree.dir("a/b/c").dir("usr/bin").file("a/file").file("usr/bin/sh");
        tree.link("bin", "usr/bin")
            .link("abs", "/usr/bin")
            .link("a/up", "../usr")
            .link("a/out", "../../../../usr");
        tree.link("loop", "loop").link("x", "y").link("y", "x").link("deep", "a/b/../../bin/./sh");
        tree.link("dangling", "/none/of/it").link("a/dangling", "gone").link("file-link", "/a/file");
        tree.link("through", "dangling/more").link("top", "/").link("dots", "..");
        tree
    }
}

impl Drop for Tree {
    #[allow(clippy::disallowed_methods, reason = "made here, by this test alone")]
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn c(path: &str) -> CString {
    CString::new(path).unwrap()
}

fn inode(fd: impl AsFd) -> (u64, u64) {
    let st = rustix::fs::fstat(fd).unwrap();
    (st.st_dev, st.st_ino)
}

/// All paths of up to three names out of these, absolute and relative.
fn paths() -> Vec<String> {
    let names = [
        "a",
        "b",
        "c",
        "..",
        ".",
        "bin",
        "abs",
        "up",
        "out",
        "loop",
        "x",
        "deep",
        "dangling",
        "file-link",
        "file",
        "usr",
        "sh",
        "none",
        "top",
        "dots",
        "through",
        "",
    ];
    let mut all = vec![String::new()];
    let mut level = all.clone();
    for _ in 0..3 {
        level = level.iter().flat_map(|p| names.iter().map(move |n| format!("{p}/{n}"))).collect();
        all.extend(level.iter().cloned());
    }
    let relative: Vec<String> =
        all.iter().step_by(7).map(|p| p.trim_start_matches('/').to_string()).collect();
    all.extend(relative);
    all.retain(|p| !p.is_empty());
    all
}

#[test]
fn existing_paths_are_what_pathrs_finds() {
    let tree = Tree::full("existing");
    let oracle = pathrs::Root::open(tree.at("")).unwrap();
    let (mut found, mut lost) = (0, 0);
    for path in paths() {
        for (links, want) in
            [(Links::Follow, oracle.resolve(&path)), (Links::NotLast, oracle.resolve_nofollow(&path))]
        {
            match (existing(tree.base(), &c(&path), links), want) {
                (Ok(fd), Ok(want)) => {
                    assert_eq!(inode(&fd), inode(&want), "{path} {links:?}");
                    found += 1;
                }
                (Err(_), Err(_)) => lost += 1,
                (ours, want) => panic!("{path} {links:?}: {ours:?}, pathrs: {want:?}"),
            }
        }
    }
    assert!(found > 1000 && lost > 10_000, "{found} {lost}");
}

/// After a creation pathrs finds the same at the path; what could not be made has a reason that the tree gives.
#[test]
fn created_paths_are_then_found_by_pathrs() {
    let mut made = 0;
    for (index, path) in paths().into_iter().step_by(41).enumerate() {
        let tree = Tree::full(&format!("create-{index}"));
        let oracle = pathrs::Root::open(tree.at("")).unwrap();
        let was = oracle.resolve(&path).map(|handle| inode(&handle));
        match create(tree.base(), &c(&path), Leaf::Dir(DIR_MODE), Links::Follow) {
            Ok(fd) => {
                assert_eq!(inode(&fd), inode(oracle.resolve(&path).unwrap()), "{path}");
                if let Ok(was) = was {
                    assert_eq!(inode(&fd), was, "{path}");
                } else {
                    made += 1;
                }
            }
            Err(lost) => {
                assert!(was.is_err(), "{path}: {lost:?}");
                assert!(matches!(lost.errno, Errno::LOOP | Errno::NOTDIR), "{path}: {lost:?}");
            }
        }
        assert_eq!(fs::read_dir(&tree.path).unwrap().count(), 1, "{path}: nothing is made beside the root");
    }
    assert!(made > 50, "{made}");
}

#[test]
fn dangling_links_are_made_inside_the_root() {
    let tree = Tree::new("dangling");
    tree.dir("etc").link("etc/hosts", "/jump/baz/hosts").link("jump", "/tmp/foo/bar");
    let fd =
        create(tree.base(), c"/etc/hosts", Leaf::File(Mode::from_bits_retain(0o644)), Links::Follow).unwrap();
    let made = fs::metadata(tree.at("tmp/foo/bar/baz/hosts")).unwrap();
    assert_eq!((made.ino(), made.len()), (inode(&fd).1, 0));
    assert!(made.is_file());
    // Not following the last one: the link itself is there, and nothing is made.
    let fd = create(tree.base(), c"/jump", Leaf::Dir(DIR_MODE), Links::NotLast).unwrap();
    assert_eq!(kind(fd.raw()), Ok(FileType::Symlink));
    let lost = create(tree.base(), c"/jump/x", Leaf::Dir(DIR_MODE), Links::Refuse).unwrap_err();
    assert_eq!(lost.errno, Errno::LOOP);
    let lost = create(tree.base(), c"/new/../jump/x", Leaf::Dir(DIR_MODE), Links::Refuse).unwrap_err();
    assert_eq!(lost.errno, Errno::LOOP);
}

#[test]
fn missing_directories_before_dots_and_after_the_root() {
    let tree = Tree::new("dots");
    create(tree.base(), c"/a/b/../../../../c//./d/", Leaf::Dir(DIR_MODE), Links::Follow).unwrap();
    assert!(tree.at("c/d").is_dir() && tree.at("a/b").is_dir());
    assert_eq!(fs::read_dir(&tree.path).unwrap().count(), 1);
    let fd = create(tree.base(), c"/../..", Leaf::Dir(DIR_MODE), Links::Follow).unwrap();
    assert_eq!(inode(&fd), inode(&tree.top));
    let fd = create(tree.base(), c"/n/..", Leaf::Dir(DIR_MODE), Links::Follow).unwrap();
    assert_eq!(inode(&fd), inode(&tree.top));
}

#[test]
fn files_on_the_way_and_in_the_place() {
    let tree = Tree::new("files");
    tree.dir("d").file("f");
    let lost = create(tree.base(), c"/f/x", Leaf::Dir(DIR_MODE), Links::Follow).unwrap_err();
    assert_eq!(lost.errno, Errno::NOTDIR);
    // What is there is opened, whatever it is: the mount itself says whether it fits.
    let fd = create(tree.base(), c"/d", Leaf::File(DIR_MODE), Links::Follow).unwrap();
    assert_eq!(kind(fd.raw()), Ok(FileType::Directory));
    assert_eq!(existing(tree.base(), c"", Links::Follow).unwrap_err().errno, Errno::NOENT);
    assert_eq!(create(tree.base(), c"", Leaf::Dir(DIR_MODE), Links::Follow).unwrap_err().errno, Errno::NOENT);
}

#[test]
fn more_than_forty_links_are_a_loop() {
    let tree = Tree::new("links");
    for n in 0..60 {
        tree.link(&format!("l{n}"), format!("l{}", n + 1));
    }
    let lost = create(tree.base(), c"/l0", Leaf::Dir(DIR_MODE), Links::Follow).unwrap_err();
    assert_eq!(lost.errno, Errno::LOOP);
    create(tree.base(), c"/l30", Leaf::Dir(DIR_MODE), Links::Follow).unwrap();
    assert!(tree.at("l60").is_dir());
    // A loop that only the creating walk sees, for the kernel finds that the first name is missing.
    tree.link("r", "new/../r");
    let lost = create(tree.base(), c"/r", Leaf::Dir(DIR_MODE), Links::Follow).unwrap_err();
    assert_eq!(lost.errno, Errno::LOOP);
}

#[test]
fn long_paths_up_to_the_kernels_limit() {
    let tree = Tree::new("long");
    let name = "n".repeat(254);
    let deep = format!("/{name}").repeat(16);
    assert_eq!(deep.len(), 4080);
    let full = format!("{deep}{}end", "/".repeat(4095 - 4080 - 3));
    assert_eq!(full.len(), 4095);
    let fd = create(tree.base(), &c(&full), Leaf::Dir(DIR_MODE), Links::Follow).unwrap();
    let again = existing(tree.base(), &c(&full), Links::Follow).unwrap();
    assert_eq!(inode(&fd), inode(&again));
    let longer = create(tree.base(), &c(&format!("{full}x")), Leaf::Dir(DIR_MODE), Links::Follow);
    assert_eq!(longer.unwrap_err().errno, Errno::NAMETOOLONG);
    let name = "n".repeat(256);
    let lost =
        create(tree.base(), &c(&format!("/q/{name}")), Leaf::Dir(DIR_MODE), Links::Follow).unwrap_err();
    assert_eq!(lost.errno, Errno::NAMETOOLONG);
    // A link in front of what is left can make it too long.
    tree.link("far", format!("/{}", "m/".repeat(1500)));
    let lost = create(tree.base(), &c(&format!("/far{deep}")), Leaf::Dir(DIR_MODE), Links::Follow);
    assert_eq!(lost.unwrap_err().errno, Errno::NAMETOOLONG);
}

#[test]
fn modes_are_exact_and_set_group_id_is_kept() {
    let tree = Tree::new("modes");
    tree.dir("g");
    fs::set_permissions(tree.at("g"), fs::Permissions::from_mode(0o2775)).unwrap();
    create(tree.base(), c"/g/h/i", Leaf::Dir(Mode::from_bits_retain(0o711)), Links::Follow).unwrap();
    // The umask of the test process is not ours to change; the walker's is 0.
    assert_eq!(fs::metadata(tree.at("g/h")).unwrap().mode() & 0o7777, 0o2755);
    assert_eq!(fs::metadata(tree.at("g/h/i")).unwrap().mode() & 0o7777, 0o2711);
}

#[test]
fn parents_and_names() {
    let tree = Tree::full("parents");
    let (dir, name) = parent(tree.base(), c"/abs/new/node", Links::Follow).unwrap();
    assert_eq!((inode(&dir).1, name), (fs::metadata(tree.at("usr/bin/new")).unwrap().ino(), c"node"));
    let (dir, name) = parent(tree.base(), c"node", Links::Follow).unwrap();
    assert_eq!((inode(&dir), name), (inode(&tree.top), c"node"));
    for bad in [c"/a/", c"/a/..", c"/a/.", c"", c"/"] {
        assert_eq!(parent(tree.base(), bad, Links::Follow).unwrap_err().errno, Errno::INVAL, "{bad:?}");
    }
    assert!(child(dir.raw(), c"a").is_ok());
    assert_eq!(kind(child(dir.raw(), c"abs").unwrap().raw()), Ok(FileType::Symlink));
    assert_eq!(child(dir.raw(), c"..").unwrap_err(), Errno::XDEV);
}

#[test]
fn magic_links_are_refused() {
    let base = fs::File::open("/proc").unwrap();
    let base = Base::new(base.as_raw_fd());
    for path in [c"/self/cwd", c"/self/cwd/new", c"/self/exe", c"/self/fd/0", c"/self/root/x"] {
        let lost = create(base, path, Leaf::Dir(DIR_MODE), Links::Follow).unwrap_err();
        assert_eq!(lost.errno, Errno::LOOP, "{path:?}");
    }
    assert!(create(base, c"/self/status", Leaf::File(DIR_MODE), Links::Follow).is_ok());
}

/// The whole set of answers that an attacker can cause by exchanging a directory and a link in the middle of a path.
fn allowed(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::EXIST | Errno::LOOP | Errno::AGAIN)
}

#[test]
fn exchanged_components_never_lead_out() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let tree = Tree::new("race");
    let outside = tree.path.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("marker"), "").unwrap();
    tree.dir("vol/dir").link("vol/link", "../../../../../../../../..").link("vol/host", &outside);
    let stop = AtomicBool::new(false);
    let (mut inside, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |a: &str, b: &str| {
                renameat_with(CWD, tree.at(a), CWD, tree.at(b), RenameFlags::EXCHANGE).unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                exchange("vol/dir", "vol/link");
                exchange("vol/dir", "vol/host");
                exchange("vol/dir", "vol/link");
            }
        });
        let root = fs::read_link(format!("/proc/self/fd/{}", tree.top.as_raw_fd())).unwrap();
        for round in 0..8_000_u32 {
            let path = c(&format!("/vol/dir/n{}/../deep/../../dir/leaf", round % 50));
            let leaf = if round % 2 == 0 { Leaf::Dir(DIR_MODE) } else { Leaf::File(DIR_MODE) };
            match create(tree.base(), &path, leaf, Links::Follow) {
                Ok(fd) => {
                    let place = fs::read_link(format!("/proc/self/fd/{}", fd.raw())).unwrap();
                    assert!(place.starts_with(&root), "{place:?}");
                    inside += 1;
                }
                Err(lost) => {
                    assert!(allowed(lost.errno), "{lost:?}");
                    refused += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["marker"]);
    assert_eq!(fs::read_dir(&tree.path).unwrap().count(), 2);
    assert!(inside > 100, "{inside} inside, {refused} refused");
}
