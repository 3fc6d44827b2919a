//! The same work on many items, in a few threads: most of the time is spent waiting for the kernel.

use std::{panic, sync::Mutex, thread};

use tokio::runtime::Builder;

use crate::kernel::{Explain as _, Result};

/// How many threads help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// Work that the processors do: changes of the network are made one at a time anyway.
    Working,
    /// Work that waits for the kernel, for all at the same time.
    Waiting,
}

impl Concurrency {
    fn threads(self) -> usize {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        match self {
            Self::Working => processors.min(4),
            Self::Waiting => 32,
        }
    }
}

/// Does `work` on every item and returns the results in the items' order. Each thread makes a state of its own to work
/// with, and has a runtime of its own. The error is that there are no threads, and then nothing has been done.
pub fn each<I: Send, S, R: Send>(
    concurrency: Concurrency,
    items: Vec<I>,
    state: impl Fn() -> S + Sync,
    work: impl AsyncFn(&mut S, I) -> R + Sync,
) -> Result<Vec<R>> {
    let threads = items.len().min(concurrency.threads());
    let runtimes = (0..threads)
        .map(|_| Builder::new_current_thread().enable_io().build())
        .collect::<Result<Vec<_>, _>>()
        .explain(|| "cannot start threads")?;
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().ok()?.next();
    let run = async || {
        let mut state = state();
        let mut results = Vec::new();
        while let Some((number, item)) = next() {
            results.push((number, work(&mut state, item).await));
        }
        results
    };
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let threads: Vec<_> = runtimes
            .into_iter()
            .map(|runtime| {
                let run = &run;
                scope.spawn(move || runtime.block_on(run()))
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
            .collect()
    });
    results.sort_unstable_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}
