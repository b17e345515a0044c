//! An allocator for programs that end soon, what of their memory a waiting child does not need, and what of it nobody writes.
//!
//! A short command parses one file, plans, clones once and ends: giving memory back piece by piece costs more than it saves. This
//! allocator only moves a mark, so starting is cheap (musl's own takes twice as long for the same parse), and it knows which pages hold
//! what was parsed: the child that waits at the gate never gets these. Large blocks alone, such as what a list has outgrown, are used
//! again, until the first child is cloned: each page that is not touched for the first time is a fault less.
//!
//! Must not: be used by a process that lives long or allocates in a loop. Tests: at the end of this file; the memory rows of the process
//! bench.
#![allow(unsafe_code, reason = "raw calls; see the module above")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// Size of the first piece; enough for an ordinary command.
const FIRST: usize = 256 * 1024;
/// What the kernel maps at least is a multiple of this; its own page may be larger, see [`page`].
const PAGE: usize = 4096;
/// Pieces double in size, so these reach any address space.
const PIECES: usize = 40;

/// A freed block from here on is used again.
const LARGE: usize = 512;
/// Kinds of large blocks: each holds those of up to twice the size of the one before, the last one all others.
const KINDS: usize = 12;

/// The allocator; for `#[global_allocator]` of a short-lived program. Memory is given back to the system only when the process ends.
#[derive(Debug)]
pub struct ShortLived(());

impl ShortLived {
    /// The allocator. All values share one memory.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl Default for ShortLived {
    fn default() -> Self {
        Self::new()
    }
}

struct Pieces {
    /// Start and end of each piece.
    pieces: [(usize, usize); PIECES],
    count: usize,
    /// Next free address in the last piece.
    next: usize,
    /// Start of the newest allocation.
    last: usize,
    /// The large block of each kind that was freed last. It begins with the address of the one before and its own size.
    free: [usize; KINDS],
    /// Whether something is kept out of children: what is freed then may be that.
    withheld: bool,
}

struct Shared {
    busy: AtomicBool,
    pieces: UnsafeCell<Pieces>,
}

// SAFETY: `pieces` is only touched between `lock` and `unlock`, which one thread at a time passes.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared {
    busy: AtomicBool::new(false),
    pieces: UnsafeCell::new(Pieces {
        pieces: [(0, 0); PIECES],
        count: 0,
        next: 0,
        last: 0,
        free: [0; KINDS],
        withheld: false,
    }),
};

fn with<T>(run: impl FnOnce(&mut Pieces) -> T) -> T {
    while SHARED.busy.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
        std::hint::spin_loop();
    }
    // SAFETY: the flag makes us the only one; `run` neither allocates nor calls back here.
    let result = run(unsafe { &mut *SHARED.pieces.get() });
    SHARED.busy.store(false, Ordering::Release);
    result
}

/// The kind of a large block of this size.
fn kind(size: usize) -> usize {
    usize::try_from((size / LARGE).checked_ilog2().unwrap_or(0)).unwrap_or(0).min(KINDS - 1)
}

impl Pieces {
    /// A large block that was freed and is large enough: of those that nearly are, and of those that must be, the first alone is looked at.
    fn again(&mut self, size: usize, align: usize) -> Option<usize> {
        if size < LARGE {
            return None;
        }
        for head in self.free.iter_mut().skip(kind(size)).take(2) {
            let block = *head;
            if block == 0 || block % align != 0 {
                continue;
            }
            // SAFETY: `give` has put them there, into a block that nobody else has since.
            let [before, room] =
                unsafe { std::ptr::with_exposed_provenance::<[usize; 2]>(block).read_unaligned() };
            if room >= size {
                *head = before;
                return Some(block);
            }
        }
        None
    }

    /// Keeps a block that nobody has any more.
    fn give(&mut self, block: usize, size: usize) {
        if self.last == block {
            self.next = block;
        } else if let Some(head) = self.free.get_mut(kind(size)).filter(|_| size >= LARGE && !self.withheld) {
            // SAFETY: the block is ours again and has room for two words.
            unsafe {
                std::ptr::with_exposed_provenance_mut::<[usize; 2]>(block).write_unaligned([*head, size])
            };
            *head = block;
        }
    }

    fn take(&mut self, size: usize, align: usize) -> Option<usize> {
        let place = |next: usize| next.checked_next_multiple_of(align);
        let end = self.count.checked_sub(1).and_then(|i| self.pieces.get(i)).map_or(0, |piece| piece.1);
        let start = place(self.next)?;
        let fits = start.checked_add(size).filter(|stop| *stop <= end && self.count > 0);
        let start = match fits {
            Some(_) => start,
            None => place(self.grow(size.checked_add(align)?)?)?,
        };
        self.next = start.checked_add(size)?;
        self.last = start;
        Some(start)
    }

    fn grow(&mut self, least: usize) -> Option<usize> {
        let shift = u32::try_from(self.count).ok()?;
        let size = FIRST.checked_shl(shift.min(12))?.max(least.checked_next_multiple_of(PAGE)?);
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return None;
        }
        let start = start.expose_provenance();
        *self.pieces.get_mut(self.count)? = (start, start.checked_add(size)?);
        self.count = self.count.checked_add(1)?;
        self.next = start;
        Some(start)
    }
}

// SAFETY: `alloc` gives ranges that do not overlap, aligned as asked, and that stay mapped; `dealloc` and `realloc` only touch the range that
// they are given, and what is given out again was freed.
unsafe impl GlobalAlloc for ShortLived {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        with(|pieces| pieces.again(size, align).or_else(|| pieces.take(size, align)))
            .map_or(null_mut(), std::ptr::with_exposed_provenance_mut)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let start = block.addr();
        with(|pieces| pieces.give(start, layout.size()));
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let start = block.addr();
        let stays = with(|pieces| {
            let end =
                pieces.count.checked_sub(1).and_then(|i| pieces.pieces.get(i)).map_or(0, |piece| piece.1);
            let stop = start.checked_add(size).filter(|stop| pieces.last == start && *stop <= end);
            stop.map(|stop| pieces.next = stop).is_some()
        });
        if stays || size <= layout.size() {
            return block;
        }
        // SAFETY: the caller guarantees that `size`, rounded up to the alignment, does not overflow.
        let layout_new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: `size` is not zero, as the caller guarantees.
        let new = unsafe { self.alloc(layout_new) };
        if !new.is_null() {
            // SAFETY: both are valid for the old size, and the new range is nobody else's.
            unsafe { std::ptr::copy_nonoverlapping(block, new, layout.size()) };
            with(|pieces| pieces.give(start, layout.size()));
        }
        new
    }
}

/// Keeps what was allocated until now, the program's variables and relocated constants, and the main thread's stack when called there, from
/// all children to come, which walk data allocated after this call on a stack of their own: neither process has to copy the pages that
/// the other writes, and a child that waits for long is small. For good: to look at the same mappings once more would take as long.
pub(crate) fn withhold() {
    let ranges = taken().into_iter().chain([main_stack()]).chain(image());
    for (start, end) in ranges.filter(|(start, end)| end > start) {
        // SAFETY: the ranges are whole pages of this allocator's mappings, which are never unmapped, of the program and of the main stack; this
        // process keeps their content. A refusal only means that children get them.
        unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTFORK)
        };
    }
}

/// What was allocated until now. What comes next shares no page with it.
fn taken() -> [(usize, usize); PIECES] {
    with(|pieces| {
        let mut found = [(0, 0); PIECES];
        pieces.next = pieces.next.next_multiple_of(page());
        pieces.last = 0;
        pieces.free = [0; KINDS];
        pieces.withheld = true;
        for (place, piece) in found.iter_mut().zip(pieces.pieces.iter().take(pieces.count)) {
            *place = *piece;
        }
        if let Some(newest) = pieces.count.checked_sub(1).and_then(|i| found.get_mut(i)) {
            newest.1 = pieces.next;
        }
        found
    })
}

/// The main thread's stack from here up; nothing in another thread. A child on a stack of its own has no use for it.
fn main_stack() -> (usize, usize) {
    if rustix::thread::gettid() != rustix::process::getpid() {
        return (0, 0);
    }
    let mut here = 0_u8;
    let here = std::hint::black_box(&raw mut here).addr();
    // The name of the program is the last string before the end of the stack (fs/exec.c), and shorter than a page or left alone.
    let end = value(libc::AT_EXECFN) & !(page() - 1);
    if end > here { ((here - 4 * page()) & !(page() - 1), end) } else { (0, 0) }
}

/// The kernel's page, 64 KiB at most (aarch64), by which madvise(2) rounds.
fn page() -> usize {
    value(libc::AT_PAGESZ).max(PAGE)
}

/// What the kernel says of this program, 0 when it does not (getauxval(3)).
fn value(kind: libc::c_ulong) -> usize {
    // SAFETY: takes a number.
    usize::try_from(unsafe { libc::getauxval(kind) }).unwrap_or(0)
}

/// The headers of this program, when it was linked with the C library musl and relocates itself.
struct Image {
    headers: &'static [libc::Elf64_Phdr],
    /// Where its first address is in this process, less that address.
    bias: usize,
}

impl Image {
    fn own() -> Option<Self> {
        let (at, count) = (value(libc::AT_PHDR), value(libc::AT_PHNUM));
        let known = value(libc::AT_PHENT) == size_of::<libc::Elf64_Phdr>();
        if !cfg!(target_env = "musl") || at == 0 || !known {
            return None;
        }
        let headers = std::ptr::with_exposed_provenance::<libc::Elf64_Phdr>(at);
        // SAFETY: the kernel gives their address, number and size; they are part of the program, which stays.
        let headers = unsafe { std::slice::from_raw_parts(headers, count) };
        let mut image = Self { headers, bias: 0 };
        let own = usize::try_from(image.header(libc::PT_PHDR)?.p_vaddr).ok()?;
        image.bias = at.wrapping_sub(own);
        // A loader has done what is asked for here.
        image.header(libc::PT_INTERP).is_none().then_some(image)
    }

    fn header(&self, kind: u32) -> Option<&libc::Elf64_Phdr> {
        self.headers.iter().find(|header| header.p_type == kind)
    }

    /// Where the linker put it, as an address of this process.
    fn place(&self, address: u64) -> usize {
        usize::try_from(address).map_or(0, |address| self.bias.wrapping_add(address))
    }
}

/// Makes what is read-only after relocation read-only (PT_GNU_RELRO), which a loader does, and the C library musl in a program without one
/// does not. Best effort: nothing depends on it.
pub(crate) fn seal_constants() {
    let Some(image) = Image::own() else { return };
    let Some(constants) = image.header(libc::PT_GNU_RELRO) else { return };
    // The linker fills the last page, so that nothing else is in it; what is before them in the first one is code or constants.
    let inside = !(page() - 1);
    let start = image.place(constants.p_vaddr) & inside;
    let end = image.place(constants.p_vaddr.wrapping_add(constants.p_memsz)) & inside;
    if end > start {
        // SAFETY: whole pages of the program's own, which nobody writes any more: every relocation is done before `main`.
        unsafe { libc::mprotect(std::ptr::with_exposed_provenance_mut(start), end - start, libc::PROT_READ) };
    }
}

/// Most linkers make two writable segments: what is read-only after relocation, and variables. A third would be left to the child.
const WRITABLE: usize = 2;

/// The variables and relocated constants of a program with the C library musl in it. The walker has none: `cargo xtask no-panic` links it
/// without. It calls `memcpy` and the like, which have none there, by the table that the linker puts after the dynamic section; that
/// table stays. A program with a loader, another C library or a build that is not optimised may need more.
fn image() -> [(usize, usize); WRITABLE] {
    let mut found = [(0, 0); WRITABLE];
    let own = if cfg!(debug_assertions) { None } else { Image::own() };
    let Some((image, dynamic)) = own.as_ref().and_then(|own| Some((own, own.header(libc::PT_DYNAMIC)?)))
    else {
        return found;
    };
    let inside = !(page() - 1);
    let tables = image.place(dynamic.p_vaddr) & inside;
    let is_writable =
        |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W != 0;
    let writable = image.headers.iter().filter(is_writable);
    for (range, header) in found.iter_mut().zip(writable) {
        let start = image.place(header.p_vaddr) & inside;
        let end = image.place(header.p_vaddr.wrapping_add(header.p_memsz)).next_multiple_of(page());
        *range = (start, if start <= tables && tables < end { tables } else { end });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// There is one memory, and each test looks at what becomes of it.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn large_blocks_are_used_again() {
        let _alone = ALONE.lock();
        let heap = ShortLived::new();
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the sizes are not zero.
        let alloc = |size| unsafe { heap.alloc(layout(size)) };
        // SAFETY: each block is freed once, with its layout.
        let free = |block, size| unsafe { heap.dealloc(block, layout(size)) };
        let first = alloc(2_500_001);
        let _between = alloc(8);
        free(first, 2_500_001);
        assert_ne!(alloc(2_500_002), first, "too small");
        assert_eq!(alloc(2_400_000), first);
        assert_ne!(alloc(2_400_000), first, "it is somebody's again");
        let other = alloc(2_600_000);
        free(first, 2_400_000);
        taken();
        assert_ne!(alloc(2_400_000), first, "a child would not have it");
        free(other, 2_600_000);
        assert_ne!(alloc(2_600_000), other, "nor this");
        with(|pieces| pieces.withheld = false);
    }

    #[test]
    fn blocks_are_aligned_apart_and_keep_their_content() {
        let _alone = ALONE.lock();
        let heap = ShortLived::new();
        let mut blocks = Vec::new();
        for (size, align) in [(1, 1), (7, 8), (4096, 4096), (100, 64), (600_000, 16), (3, 2)] {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the layout's size is not zero.
            let block = unsafe { heap.alloc(layout) };
            assert_eq!(block.addr() % align, 0);
            // SAFETY: the block has this size.
            unsafe { block.write_bytes(u8::try_from(blocks.len()).unwrap(), size) };
            blocks.push((block, size));
        }
        for (i, (block, size)) in blocks.iter().enumerate() {
            // SAFETY: nothing was freed.
            let bytes = unsafe { std::slice::from_raw_parts(*block, *size) };
            assert!(bytes.iter().all(|b| usize::from(*b) == i), "block {i}");
        }
        let layout = Layout::from_size_align(10, 1).unwrap();
        // SAFETY: the size is not zero.
        let first = unsafe { heap.alloc(layout) };
        // SAFETY: the block has this size.
        unsafe { first.write_bytes(9, 10) };
        // SAFETY: the size is not zero.
        let _between = unsafe { heap.alloc(layout) };
        // SAFETY: the block was given out with this layout.
        let moved = unsafe { heap.realloc(first, layout, 5000) };
        assert_ne!(first, moved);
        // SAFETY: the block has at least this size.
        assert_eq!(unsafe { std::slice::from_raw_parts(moved, 10) }, [9; 10]);
        let before = taken();
        assert!(blocks.iter().all(|(block, size)| {
            before.iter().any(|(start, end)| block.addr() >= *start && block.addr() + size <= *end)
        }));
        // SAFETY: the size is not zero.
        let after = unsafe { heap.alloc(layout) };
        with(|pieces| pieces.withheld = false);
        assert!(!before.iter().any(|(start, end)| after.addr() >= *start && after.addr() < *end));
    }
}
