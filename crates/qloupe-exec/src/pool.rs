//! Running on the threads of the current rayon pool.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// This thread waits for work in [`wait_for_work`] already.
    static WAITS: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f` on a thread of the current pool, while the other threads stay awake for the work that it shares.
///
/// A run of a network is many short pieces of parallel work. From outside the pool each of them would wake a thread and
/// wait for it, and threads of the pool that find nothing to do for a moment go to sleep, which takes longer to end than
/// a layer takes to run.
pub fn in_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let n_threads = rayon::current_num_threads();
    if n_threads == 1 || rayon::current_thread_index().is_some() {
        return f();
    }
    let done = AtomicBool::new(false);
    rayon::scope(|scope| {
        let (done, caller) = (&done, rayon::current_thread_index());
        for _ in 1..n_threads {
            scope.spawn(move |_| wait_for_work(done, caller));
        }
        // Also when `f` panics: the scope ends when nobody waits any more.
        let _guard = SetOnDrop(done);
        f()
    })
}

/// Calls both, at once where there are threads for it.
pub fn both<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    if rayon::current_num_threads() == 1 {
        // Outside the pool its only thread would have to be woken.
        (a(), b())
    } else {
        rayon::join(a, b)
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Does what other threads share until `done`. The calling thread, which would wait for itself, and one that is here
/// already go on at once.
fn wait_for_work(done: &AtomicBool, caller: Option<usize>) {
    if rayon::current_thread_index() == caller || WAITS.replace(true) {
        return;
    }
    while !done.load(Ordering::Acquire) {
        if rayon::yield_now() != Some(rayon::Yield::Executed) {
            std::hint::spin_loop();
        }
    }
    WAITS.set(false);
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn work_of_any_depth_is_shared_and_a_panic_ends_the_waiting() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let sum = |n: u64| -> u64 {
            (0..n)
                .into_par_iter()
                .map(|i| (0..=i % 7).into_par_iter().sum::<u64>())
                .sum()
        };
        let expected: u64 = (0..5000_u64).map(|i| (0..=i % 7).sum::<u64>()).sum();
        for _ in 0..50 {
            assert_eq!(pool.install(|| sum(5000)), expected);
            std::thread::scope(|scope| {
                let outside = scope.spawn(|| in_pool(|| (0..1000_u64).into_par_iter().sum::<u64>()));
                assert_eq!(outside.join().unwrap(), 499_500);
            });
        }
        let panics = std::panic::catch_unwind(|| in_pool(|| -> u32 { panic!("as meant") }));
        assert!(panics.is_err(), "the panic comes out");
    }
}
