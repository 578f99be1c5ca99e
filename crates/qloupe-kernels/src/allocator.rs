//! A global allocator that starts buffers on cache lines and keeps freed ones for the next layer.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const LINE_BYTES: usize = 64;
/// Smaller allocations are left as they are: the system keeps those for the next.
const MIN_BYTES: usize = 1024;
/// Larger buffers are not kept.
const MAX_KEPT_BYTES: usize = 1 << 28;
/// Sizes that double hold so many classes.
const CLASSES_PER_DOUBLING: usize = 8;
const N_CLASSES: usize = (MAX_KEPT_BYTES.ilog2() - MIN_BYTES.ilog2()) as usize * CLASSES_PER_DOUBLING + 1;
/// Classes above the wanted one that are searched: a buffer of up to a half more is taken.
const SEARCHED: usize = 5;
/// When a new buffer is needed while more is kept, as many bytes go back to the system first.
const MAX_IDLE_BYTES: usize = 128 << 20;
/// Stores of freed buffers, so that threads seldom wait for one another.
const N_STORES: usize = 8;

thread_local! {
    /// The store of this thread; none yet.
    static OWN_STORE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The system allocator, with allocations of 1 KiB and more aligned to a cache line and kept for reuse.
///
/// A vector load that crosses a line counts twice; buffers from the plain system allocator start 16 bytes into one, so
/// that every full-width load of theirs does. The system searches long for aligned ones, and takes large ones apart when they
/// are freed, so that each layer of a network would wait for its memory to be mapped page by page. Results do not depend on it.
///
/// # Example
/// ```
/// #[global_allocator]
/// static ALLOCATOR: qloupe_kernels::LayerAllocator = qloupe_kernels::LayerAllocator::new();
///
/// assert_eq!(vec![0_f32; 5000].as_ptr().addr() % 64, 0);
/// ```
#[derive(Debug)]
pub struct LayerAllocator {
    stores: [Store; N_STORES],
    /// How many threads have a store.
    n_threads: AtomicUsize,
}

/// Freed buffers of some threads, by themselves on a line.
#[derive(Debug)]
#[repr(align(64))]
struct Store {
    locked: AtomicBool,
    kept: UnsafeCell<Kept>,
    /// Bytes of the buffers, to be read without the lock.
    bytes: AtomicUsize,
}

/// Freed buffers by class: each begins with the address of the next.
#[derive(Debug)]
struct Kept {
    first: [*mut u8; N_CLASSES],
    bytes: usize,
}

// SAFETY: `kept` is only used by the thread that holds the lock.
unsafe impl Sync for Store {}
// SAFETY: the buffers that it keeps belong to no thread.
unsafe impl Send for Store {}

/// The class of a size that is kept.
fn class_of(bytes: usize) -> Option<usize> {
    if !(MIN_BYTES..=MAX_KEPT_BYTES).contains(&bytes) {
        return None;
    }
    let doubling = bytes.ilog2() as usize;
    let step = (1 << doubling) / CLASSES_PER_DOUBLING;
    let steps = (bytes - (1 << doubling)).div_ceil(step);
    Some((doubling - MIN_BYTES.ilog2() as usize) * CLASSES_PER_DOUBLING + steps)
}

/// The bytes of the buffers of a class.
fn class_bytes(class: usize) -> usize {
    let doubling = MIN_BYTES << (class / CLASSES_PER_DOUBLING);
    doubling + class % CLASSES_PER_DOUBLING * (doubling / CLASSES_PER_DOUBLING)
}

impl Default for LayerAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl LayerAllocator {
    /// An allocator that keeps nothing yet.
    pub const fn new() -> Self {
        Self {
            stores: [const { Store::new() }; N_STORES],
            n_threads: AtomicUsize::new(0),
        }
    }

    /// The place of this thread's store.
    fn own_store(&self) -> usize {
        let known = OWN_STORE.get();
        if known != usize::MAX {
            return known;
        }
        let own = self.n_threads.fetch_add(1, Ordering::Relaxed) % N_STORES;
        OWN_STORE.set(own);
        own
    }

    /// A buffer of at least the bytes of a class, one that was kept if there is one.
    ///
    /// # Safety
    /// `bytes` is in the class.
    unsafe fn take(&self, bytes: usize, class: usize, zeroed: bool) -> *mut u8 {
        let own = self.own_store();
        let stores = self.stores[own..].iter().chain(&self.stores[..own]);
        let mut filled = stores.filter(|store| store.bytes.load(Ordering::Relaxed) > 0);
        if let Some(at) = filled.find_map(|store| store.with_kept(|kept| kept.take(class))) {
            if zeroed {
                // SAFETY: the buffer has at least these bytes.
                unsafe { at.write_bytes(0, bytes) };
            }
            return at;
        }
        self.trim(class_bytes(class));
        let layout = layout_of(class);
        // SAFETY: the layout is not empty, and has room for the class before the buffer.
        unsafe {
            let base = if zeroed {
                System.alloc_zeroed(layout)
            } else {
                System.alloc(layout)
            };
            if base.is_null() {
                return base;
            }
            base.cast::<usize>().write(class);
            base.add(LINE_BYTES)
        }
    }

    /// Gives kept buffers back to the system if there are many: the largest of the fullest store, of as many bytes as are
    /// `wanted` if it has them.
    fn trim(&self, wanted: usize) {
        let bytes = |store: &&Store| store.bytes.load(Ordering::Relaxed);
        if self.stores.iter().map(|store| bytes(&store)).sum::<usize>() <= MAX_IDLE_BYTES {
            return;
        }
        let fullest = self.stores.iter().max_by_key(bytes).unwrap_or(&self.stores[0]);
        let mut freed = fullest.with_kept(|kept| kept.take_largest(wanted));
        while !freed.is_null() {
            // SAFETY: a kept buffer begins with the address of the next; the line before it holds the class that it was
            // allocated as.
            unsafe {
                let next = freed.cast::<*mut u8>().read();
                let base = freed.sub(LINE_BYTES);
                System.dealloc(base, layout_of(base.cast::<usize>().read()));
                freed = next;
            }
        }
    }
}

impl Store {
    const fn new() -> Self {
        Self {
            locked: AtomicBool::new(false),
            kept: UnsafeCell::new(Kept {
                first: [null_mut(); N_CLASSES],
                bytes: 0,
            }),
            bytes: AtomicUsize::new(0),
        }
    }

    fn with_kept<R>(&self, f: impl FnOnce(&mut Kept) -> R) -> R {
        while self
            .locked
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            std::hint::spin_loop();
        }
        // SAFETY: this thread holds the lock, and `f` does not allocate.
        let kept = unsafe { &mut *self.kept.get() };
        let result = f(kept);
        self.bytes.store(kept.bytes, Ordering::Relaxed);
        self.locked.store(false, Ordering::Release);
        result
    }
}

impl Kept {
    /// A buffer of a class, or a somewhat larger one.
    fn take(&mut self, class: usize) -> Option<*mut u8> {
        let end = (class + SEARCHED).min(N_CLASSES);
        let found = (class..end).find(|&class| !self.first[class].is_null())?;
        let at = self.first[found];
        // SAFETY: a kept buffer begins with the address of the next.
        self.first[found] = unsafe { at.cast::<*mut u8>().read() };
        self.bytes -= class_bytes(found);
        Some(at)
    }

    /// A chain of the largest buffers, of `wanted` bytes or all that there are.
    fn take_largest(&mut self, wanted: usize) -> *mut u8 {
        let (mut taken, mut bytes) = (null_mut(), 0);
        for class in (0..N_CLASSES).rev() {
            while bytes < wanted && !self.first[class].is_null() {
                let at = self.first[class];
                // SAFETY: a kept buffer begins with the address of the next.
                unsafe {
                    self.first[class] = at.cast::<*mut u8>().read();
                    at.cast::<*mut u8>().write(taken);
                }
                taken = at;
                bytes += class_bytes(class);
            }
        }
        self.bytes -= bytes;
        taken
    }
}

fn aligned(layout: Layout) -> Layout {
    if layout.size() < MIN_BYTES {
        return layout;
    }
    layout.align_to(LINE_BYTES).unwrap_or(layout)
}

/// A buffer of a class, after a line that holds the class.
fn layout_of(class: usize) -> Layout {
    Layout::from_size_align(LINE_BYTES + class_bytes(class), LINE_BYTES)
        .expect("invariant: a class has a valid layout")
}

/// The class of a layout whose buffers are kept.
fn kept_class(layout: Layout) -> Option<usize> {
    class_of(layout.size()).filter(|_| layout.align() <= LINE_BYTES)
}

// SAFETY: the system allocator's buffers, or ones of at least the size and alignment that were released before. Whether a
// buffer is one that is kept follows from the caller's layout alone, so that allocation and release agree.
unsafe impl GlobalAlloc for LayerAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's; a larger alignment keeps the size.
        unsafe {
            match kept_class(layout) {
                Some(class) => self.take(layout.size(), class, false),
                None => System.alloc(aligned(layout)),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            match kept_class(layout) {
                Some(class) => self.take(layout.size(), class, true),
                None => System.alloc_zeroed(aligned(layout)),
            }
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if kept_class(layout).is_none() {
            // SAFETY: the caller's; the layout is the one of the allocation.
            unsafe { System.dealloc(at, aligned(layout)) };
            return;
        }
        // SAFETY: the line before the buffer holds the class of which it is.
        let class = unsafe { at.sub(LINE_BYTES).cast::<usize>().read() };
        self.stores[self.own_store()].with_kept(|kept| {
            // SAFETY: the buffer is larger than an address, aligned for one, and nobody else's any more.
            unsafe { at.cast::<*mut u8>().write(kept.first[class]) };
            kept.first[class] = at;
            kept.bytes += class_bytes(class);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_the_sizes_and_waste_an_eighth_at_most() {
        for bytes in (MIN_BYTES..1 << 20)
            .step_by(997)
            .chain([MAX_KEPT_BYTES - 1, MAX_KEPT_BYTES])
        {
            let class = class_of(bytes).expect("invariant: the size is kept");
            let room = class_bytes(class);
            assert!(
                room >= bytes && room - bytes <= bytes / CLASSES_PER_DOUBLING,
                "{bytes} {room}"
            );
            assert!(class < N_CLASSES, "{bytes} {class}");
        }
        assert_eq!(class_of(MIN_BYTES - 1), None);
        assert_eq!(class_of(MAX_KEPT_BYTES + 1), None);
    }

    #[test]
    fn freed_buffers_come_back_and_zeroed_ones_are_zero() {
        let allocator = LayerAllocator::new();
        let layout = |bytes: usize| Layout::from_size_align(bytes, 4).unwrap();
        // SAFETY: every buffer is used with the layout that it was allocated with, and released once.
        unsafe {
            let first = allocator.alloc(layout(100_000));
            first.write_bytes(7, 100_000);
            allocator.dealloc(first, layout(100_000));
            let second = allocator.alloc_zeroed(layout(80_000));
            assert_eq!(first, second, "a buffer of up to a half more is taken");
            assert!((0..80_000).all(|i| second.add(i).read() == 0), "zeroed");
            assert_eq!(second.addr() % LINE_BYTES, 0);
            allocator.dealloc(second, layout(80_000));
            let third = allocator.alloc(layout(100_000));
            assert_eq!(first, third, "it keeps its size");
            let large = allocator.alloc(layout(MAX_IDLE_BYTES + MIN_BYTES));
            allocator.dealloc(large, layout(MAX_IDLE_BYTES + MIN_BYTES));
            allocator.dealloc(third, layout(100_000));
            let other = allocator.alloc(layout(1 << 20));
            let idle: usize = allocator
                .stores
                .iter()
                .map(|store| store.bytes.load(Ordering::Relaxed))
                .sum();
            assert!(
                (100_000..1 << 20).contains(&idle),
                "of much that is idle the largest goes back, not all: {idle}"
            );
            allocator.dealloc(other, layout(1 << 20));
            System.dealloc(third.sub(LINE_BYTES), layout_of(class_of(100_000).unwrap()));
            System.dealloc(other.sub(LINE_BYTES), layout_of(class_of(1 << 20).unwrap()));
        }
    }
}
