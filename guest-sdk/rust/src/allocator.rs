//! The memory of every plugin: the standard library's own allocator, but over memory that the module has from its start.
//! The standard one asks the host for its first page in every request, and growing costs a fresh instance several
//! microseconds, more so on several threads. Knows one thread only, as wasm32 without atomics does.
#![allow(unsafe_code, reason = "an allocator deals in raw memory")]

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32::memory_grow;
use std::cell::{Cell, UnsafeCell};

use dlmalloc::{Allocator, Dlmalloc};

/// Room for a small image and its tensor; untouched, it costs nothing, and beyond it memory grows as usual.
const ARENA_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 1 << 16;

#[cfg(target_feature = "atomics")]
compile_error!("this allocator is for one thread");

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Dlmalloc::new_with_allocator(Memory { arena_taken: Cell::new(false) })));

static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));

#[repr(C, align(16))]
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: there is one thread.
unsafe impl Sync for Arena {}

/// First the arena, then what the host gives.
struct Memory {
    arena_taken: Cell<bool>,
}

// SAFETY: the arena is handed out once and whole, and grown memory is the module's own; both begin as zeros, and neither
// is ever taken back.
unsafe impl Allocator for Memory {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= ARENA_BYTES && !self.arena_taken.replace(true) {
            return (ARENA.0.get().cast(), ARENA_BYTES, 0);
        }
        let pages = size.div_ceil(PAGE_BYTES);
        match memory_grow(0, pages).checked_mul(PAGE_BYTES) {
            // The end of the last page of all would not be an address: it stays unused.
            Some(start) => (start as *mut u8, (pages * PAGE_BYTES).min(usize::MAX - start), 0),
            None => (std::ptr::null_mut(), 0, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        std::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

struct Heap(UnsafeCell<Dlmalloc<Memory>>);

// SAFETY: there is one thread.
unsafe impl Sync for Heap {}

// SAFETY: dlmalloc keeps `GlobalAlloc`'s contract, and with one thread that never re-enters it, each `&mut` is the only one.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for the whole.
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for the whole.
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as for the whole; the caller gives what it got.
        unsafe { (*self.0.get()).free(pointer, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for the whole; the caller gives what it got.
        unsafe { (*self.0.get()).realloc(pointer, layout.size(), layout.align(), size) }
    }
}
