//! Work that takes its time: done on a thread of its own while the calling thread, without the GIL, tells of its progress and
//! looks for Ctrl-C.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use qloupe::Error;
use qloupe_exec::Interruption;

use crate::error::to_python;

/// How often the calling thread looks: often enough for a hand on a keyboard.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the working thread tells.
struct Told<R> {
    stage: Option<(String, usize, usize)>,
    result: Option<thread::Result<Result<R, Error>>>,
}

struct Desk<R> {
    told: Mutex<Told<R>>,
    news: Condvar,
}

impl<R> Desk<R> {
    fn lock(&self) -> MutexGuard<'_, Told<R>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `work` and returns what it gives. `progress` is a callable `(stage, done, total)` or nothing; what it raises, and a
/// signal, end the work.
pub(crate) fn run<R: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&(dyn Fn(&str, usize, usize) + Sync)) -> Result<R, Error> + Send,
) -> PyResult<R> {
    let desk = Desk {
        told: Mutex::new(Told {
            stage: None,
            result: None,
        }),
        news: Condvar::new(),
    };
    let tell = |stage: &str, done: usize, total: usize| {
        let mut told = desk.lock();
        let before = told.stage.take();
        // Threads tell of their parts in any order.
        let most = match before {
            Some((name, most, _)) if name == stage => most.max(done),
            _ => done,
        };
        told.stage = Some((stage.to_owned(), most, total));
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&tell)));
            desk.lock().result = Some(result);
            desk.news.notify_all();
        });
        let mut ended: Option<(PyErr, Interruption)> = None;
        let mut shown = None;
        let result = loop {
            let (result, stage) = py.detach(|| {
                let told = desk.lock();
                let waiting = |told: &mut Told<R>| told.result.is_none();
                let (mut told, _) = desk
                    .news
                    .wait_timeout_while(told, LOOK_EVERY, waiting)
                    .unwrap_or_else(PoisonError::into_inner);
                (told.result.take(), told.stage.clone())
            });
            if ended.is_none() {
                let news = stage.filter(|stage| shown.as_ref() != Some(stage));
                let reaction = py.check_signals().and_then(|()| match (progress, news) {
                    (Some(progress), Some(news)) => {
                        shown = Some(news.clone());
                        progress.call1(news).map(|_| ())
                    }
                    _ => Ok(()),
                });
                ended = reaction.err().map(|error| (error, Interruption::new()));
            }
            if let Some(result) = result {
                break result;
            }
        };
        let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match ended {
            Some((error, _)) => Err(error),
            None => result.map_err(|error| to_python(py, &error)),
        }
    })
}
