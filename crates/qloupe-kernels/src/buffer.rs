//! Buffers aligned to cache lines, and one reusable buffer for each thread.

use std::cell::RefCell;
use std::mem::MaybeUninit;

/// A cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u64; 8]);

const LINE: Line = Line([0; 8]);
const LINE_BYTES: usize = size_of::<Line>();

/// Types without padding or invalid bit patterns.
///
/// # Safety
/// All zero bytes are a value, and every byte pattern is one.
pub(crate) unsafe trait Plain: Copy + Send + Sync + 'static {}

// SAFETY: every bit pattern of these is a value.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for i16 {}
// SAFETY: as above.
unsafe impl Plain for i8 {}
// SAFETY: as above.
unsafe impl Plain for u8 {}

/// A fixed number of elements, aligned to a cache line; zero at first.
#[derive(Clone, Debug)]
pub(crate) struct Aligned<T> {
    lines: Vec<Line>,
    n: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Plain> Aligned<T> {
    pub(crate) fn zeroed(n: usize) -> Self {
        Self {
            lines: vec![LINE; (n * size_of::<T>()).div_ceil(LINE_BYTES)],
            n,
            element: std::marker::PhantomData,
        }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: the lines hold at least `n` elements, any bytes are elements, and a line is aligned for them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.n) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and the lines are borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.n) }
    }
}

/// A vector of `n` elements that `fill` writes, without writing zeros before.
///
/// # Safety
/// `fill` writes every element.
pub(crate) unsafe fn filled<T>(n: usize, fill: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut values = Vec::with_capacity(n);
    fill(&mut values.spare_capacity_mut()[..n]);
    // SAFETY: the capacity is at least `n`, and `fill` wrote as many elements.
    unsafe { values.set_len(n) };
    values
}

/// Values as memory to be written.
pub(crate) fn as_unwritten<T: Plain>(values: &mut [T]) -> &mut [MaybeUninit<T>] {
    // SAFETY: the layout is the same, and every bit pattern is a value: whatever is written there leaves values.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Lends `n` elements of this thread's buffer, with unspecified contents. `f` must not call this again.
pub(crate) fn with_scratch<T: Plain, R>(n: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    SCRATCH.with_borrow_mut(|lines| {
        let n_lines = (n * size_of::<T>()).div_ceil(LINE_BYTES);
        if lines.len() < n_lines {
            lines.resize(n_lines, LINE);
        }
        // SAFETY: the lines hold at least `n` elements, any bytes are elements, and a line is aligned for them.
        f(unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), n) })
    })
}
