//! A global allocator that starts large buffers on cache lines.

use std::alloc::{GlobalAlloc, Layout, System};

const LINE_BYTES: usize = 64;
/// Smaller allocations are left as they are.
const MIN_BYTES: usize = 4096;

/// The system allocator, with allocations of 4 KiB and more aligned to a cache line.
///
/// A vector load that crosses a line counts twice; buffers from the plain system allocator start 16 bytes into one, so
/// that every full-width load of theirs does. Depthwise convolutions gain the most. Results do not depend on it.
///
/// # Example
/// ```
/// #[global_allocator]
/// static ALLOCATOR: qloupe_kernels::CacheLineAllocator = qloupe_kernels::CacheLineAllocator;
///
/// assert_eq!(vec![0_f32; 5000].as_ptr().addr() % 64, 0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheLineAllocator;

fn aligned(layout: Layout) -> Layout {
    if layout.size() < MIN_BYTES {
        return layout;
    }
    layout.align_to(LINE_BYTES).unwrap_or(layout)
}

// SAFETY: the system allocator; the layout that it sees follows from the caller's alone, so that allocation and release
// see the same.
unsafe impl GlobalAlloc for CacheLineAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's; a larger alignment keeps the size.
        unsafe { System.alloc(aligned(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(aligned(layout)) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's; the layout is the one of the allocation.
        unsafe { System.dealloc(at, aligned(layout)) }
    }
}
