//! Running on the threads of the current rayon pool.

/// Calls `f` on a thread of the current pool, where handing work to the other threads is quick: from outside, each piece
/// of parallel work would wake a thread and wait for it.
pub fn in_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    if rayon::current_num_threads() == 1 || rayon::current_thread_index().is_some() {
        f()
    } else {
        rayon::scope(|_| f())
    }
}
