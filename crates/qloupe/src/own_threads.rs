//! Samples at once, each on threads of its own: nothing of a layer is handed from one thread to another, which costs more
//! than a small layer takes.

use std::ops::Range;
use std::sync::mpsc::{SyncSender, sync_channel};

use rayon::ThreadPoolBuilder;

/// Calls `f` on `n_threads` threads that it has for itself; on those there are if no more can be started.
pub(crate) fn on_own_threads<R: Send>(n_threads: usize, f: impl FnOnce() -> R + Send) -> R {
    match ThreadPoolBuilder::new().num_threads(n_threads).build() {
        Ok(pool) => pool.install(f),
        Err(_) => f(),
    }
}

/// Calls `run` for each index, `n_at_once` of them at once on equal parts of the threads, and `take` with the results in
/// the order of the indices, until it says that this is enough. At most two results of each part wait for their turn.
///
/// # Errors
/// The first one in the order of the indices.
pub(crate) fn in_order<R: Send, E: Send>(
    idxs: Range<usize>,
    n_at_once: usize,
    run: impl Fn(usize) -> Result<R, E> + Sync,
    mut take: impl FnMut(usize, R) -> Result<bool, E>,
) -> Result<(), E> {
    let n_threads = (rayon::current_num_threads() / n_at_once).max(1);
    let run_every = |idxs: Range<usize>, to: &SyncSender<Result<R, E>>| {
        for idx in idxs.step_by(n_at_once) {
            // Nobody listens any more: there were enough, or an error.
            if to.send(run(idx)).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let part = |offset: usize| {
            let (to, from) = sync_channel(1);
            let (run_every, idxs) = (&run_every, idxs.start + offset..idxs.end);
            scope.spawn(move || on_own_threads(n_threads, || run_every(idxs, &to)));
            from
        };
        let parts: Vec<_> = (0..n_at_once).map(part).collect();
        for (idx, from) in idxs.clone().zip(parts.iter().cycle()) {
            // Nothing comes from a part that panicked, which the scope tells.
            let Ok(result) = from.recv() else { break };
            if !take(idx, result?)? {
                break;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_taken_in_order_until_there_are_enough_or_one_fails() {
        struct Case {
            n_at_once: usize,
            enough: usize,
            bad: usize,
            expected: Result<(), usize>,
            taken: Range<usize>,
        }
        let case = |n_at_once, enough, bad, expected, taken| Case {
            n_at_once,
            enough,
            bad,
            expected,
            taken,
        };
        let cases = [
            case(1, 99, 99, Ok(()), 3..20),
            case(3, 99, 99, Ok(()), 3..20),
            case(30, 99, 99, Ok(()), 3..20),
            case(4, 9, 99, Ok(()), 3..10),
            case(4, 99, 8, Err(8), 3..8),
            case(4, 7, 8, Ok(()), 3..8),
        ];
        for case in cases {
            let mut taken = Vec::new();
            let run = |idx: usize| {
                let is_bad = idx >= case.bad;
                if is_bad {
                    Err(idx)
                } else {
                    Ok(rayon::current_num_threads())
                }
            };
            let result = in_order(3..20, case.n_at_once, run, |idx, _| {
                taken.push(idx);
                Ok(idx < case.enough)
            });
            assert_eq!(result, case.expected);
            assert!(taken.iter().copied().eq(case.taken));
        }
    }

    #[test]
    fn a_panic_comes_out() {
        let run = |idx: usize| {
            if idx == 2 {
                panic!("as meant")
            } else {
                Ok::<_, ()>(idx)
            }
        };
        let panics = std::panic::catch_unwind(|| in_order(0..9, 2, run, |_, _| Ok(true)));
        assert!(panics.is_err());
    }
}
