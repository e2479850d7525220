//! Spreads work over all cores, keeping the order of the results.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;

use crate::error::ContentError;

/// More threads than this don't help: beyond, the disk is the limit.
const WORKERS_MAX: usize = 16;

/// Who reads from a disk or writes to it waits for it half of the time.
const WORKERS_PER_CORE: usize = 2;

/// How many threads work at once, if they read or write.
pub(crate) fn workers() -> usize {
    (cores() * WORKERS_PER_CORE).min(WORKERS_MAX)
}

/// How many threads work at once, if they only compute.
pub(crate) fn cores() -> usize {
    thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(WORKERS_MAX)
}

/// Applies `work` to every item; the results are in the order of the items.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let workers = workers().min(items.len());
    if workers < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let run = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            let result = work(item);
            lock(&results).push((index, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(run);
        }
        run();
    });
    let mut results = results
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Does the work that `feed` sends on `workers` threads, each with a work of its own from `begin`, and hands what comes of
/// it to `accept`: one after the other, in the order in which it was sent, on the calling thread. At most `ahead_max` are
/// on their way at once.
pub(crate) fn in_line<T: Send, R: Send, W: FnMut(T) -> R, A>(
    workers: usize,
    ahead_max: usize,
    begin: impl Fn() -> W + Sync,
    accept: &mut Accept<'_, R>,
    feed: impl FnOnce(&mut Line<'_, '_, T, R>) -> Result<A, ContentError>,
) -> Result<A, ContentError> {
    let (to_workers, items) = mpsc::sync_channel::<(usize, T)>(ahead_max);
    let (to_us, results) = mpsc::channel::<(usize, R)>();
    let items = Mutex::new(items);
    thread::scope(|scope| {
        for _ in 0..workers {
            let (items, to_us, begin) = (&items, to_us.clone(), &begin);
            scope.spawn(move || work(items, &to_us, begin()));
        }
        drop(to_us);
        let mut line = Line {
            to_workers,
            results,
            early: BTreeMap::new(),
            sent: 0,
            accepted: 0,
            ahead_max,
            accept,
        };
        let fed = feed(&mut line)?;
        line.settle()?;
        Ok(fed)
    })
}

/// Takes what came of an item.
pub(crate) type Accept<'a, R> = dyn FnMut(R) -> Result<(), ContentError> + 'a;

fn work<T, R>(
    items: &Mutex<Receiver<(usize, T)>>,
    to_us: &Sender<(usize, R)>,
    mut work: impl FnMut(T) -> R,
) {
    loop {
        let next = lock(items).recv();
        let Ok((place, item)) = next else { return };
        // Nobody waits any more if something in front of it ended the work.
        if to_us.send((place, work(item))).is_err() {
            return;
        }
    }
}

/// Items on their way through the workers, put back into their order at the end.
pub(crate) struct Line<'l, 'a, T, R> {
    to_workers: SyncSender<(usize, T)>,
    results: Receiver<(usize, R)>,
    /// What was done before something in front of it.
    early: BTreeMap<usize, R>,
    sent: usize,
    accepted: usize,
    ahead_max: usize,
    accept: &'l mut Accept<'a, R>,
}

impl<T, R> Line<'_, '_, T, R> {
    /// Sends an item on its way; waits while too many are. Fails if an earlier one was not accepted.
    pub(crate) fn send(&mut self, item: T) -> Result<(), ContentError> {
        while let Ok((place, result)) = self.results.try_recv() {
            self.take(place, result)?;
        }
        while self.sent - self.accepted >= self.ahead_max {
            self.wait()?;
        }
        if self.to_workers.send((self.sent, item)).is_err() {
            return Err(ContentError::Cancelled);
        }
        self.sent += 1;
        Ok(())
    }

    /// Waits until all that was sent is accepted.
    pub(crate) fn settle(&mut self) -> Result<(), ContentError> {
        while self.accepted < self.sent {
            self.wait()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), ContentError> {
        match self.results.recv() {
            Ok((place, result)) => self.take(place, result),
            // Only a panic ends all workers early; the scope passes it on.
            Err(mpsc::RecvError) => Err(ContentError::Cancelled),
        }
    }

    fn take(&mut self, place: usize, result: R) -> Result<(), ContentError> {
        self.early.insert(place, result);
        while let Some(result) = self.early.remove(&self.accepted) {
            self.accepted += 1;
            (self.accept)(result)?;
        }
        Ok(())
    }
}

/// Locks, also after a panic of another holder: what we guard is never left half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use crate::error::ContentError;

    #[test]
    fn the_order_is_kept() {
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(
            super::map(&items, |item| item * 2),
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
        assert!(super::map(&[] as &[u32], |item| *item).is_empty());
    }

    /// What is accepted of the doubles of `items`, at most one beyond `last`.
    fn check(items: &[u32], last: u32) -> (Vec<u32>, bool) {
        let mut accepted = Vec::new();
        let mut accept = |item| {
            accepted.push(item);
            if item > last {
                return Err(ContentError::Cancelled);
            }
            Ok(())
        };
        let feed = |line: &mut super::Line<'_, '_, u32, u32>| {
            items.iter().try_for_each(|item| line.send(*item))
        };
        let result = super::in_line(3, 5, || |item| item * 2, &mut accept, feed);
        (accepted, result.is_ok())
    }

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let items: Vec<u32> = (0..1000).collect();
        let doubles: Vec<u32> = items.iter().map(|item| item * 2).collect();
        assert_eq!(check(&items, 5000), (doubles, true));
        assert_eq!(check(&[], 5000), (vec![], true));
        assert_eq!(check(&items, 4), (vec![0, 2, 4, 6], false));
    }
}
