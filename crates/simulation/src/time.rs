//! Virtual time. The agent's blocking code runs in threads of its own, but only one of them at a time: whoever waits hands
//! the turn back, and time jumps to the next thing that is due.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The time of day, for everybody in this program. One program simulates one world at a time.
static NOW_MS: AtomicI64 = AtomicI64::new(0);

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    NOW_MS.load(Ordering::SeqCst)
}

/// Time goes on to then, never back.
pub(crate) fn go_on_to(ms: i64) {
    NOW_MS.fetch_max(ms, Ordering::SeqCst);
}

/// A world begins: this is the time.
pub(crate) fn begin_at(ms: i64) {
    NOW_MS.store(ms, Ordering::SeqCst);
}

/// How a thread of a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The work is done.
    Done,
    /// The machine restarts.
    Restart,
    /// The machine switches itself off.
    Off,
    /// The power is gone.
    Cut,
    /// A panic, which is never right.
    Panic(String),
}

/// The power goes, or the machine does what it was told; never returns to the agent.
pub(crate) fn end(how: End) -> ! {
    resume_unwind(Box::new(how))
}

enum Wake {
    Go,
    Die,
}

enum Report {
    /// Until then, unless something happens. Idle: it only looked, and did nothing.
    Waits {
        until_ms: i64,
        is_idle: bool,
    },
    Ended(End),
}

struct Me {
    id: u64,
    wake: Receiver<Wake>,
    reports: Sender<(u64, Report)>,
}

thread_local! {
    static ME: RefCell<Option<Me>> = const { RefCell::new(None) };
}

/// Waits in a machine's thread until then, or until `done` says so.
pub(crate) fn wait_until(until_ms: i64, done: &dyn Fn() -> bool) {
    let mut is_idle = false;
    while !done() && now_ms() < until_ms {
        let is_to_die = ME.with_borrow(|me| {
            let Some(me) = me else {
                // The simulation's own thread, which nobody waits for.
                go_on_to(until_ms);
                return false;
            };
            let report = (me.id, Report::Waits { until_ms, is_idle });
            me.reports.send(report).is_err() || !matches!(me.wake.recv(), Ok(Wake::Go))
        });
        if is_to_die {
            end(End::Cut);
        }
        is_idle = true;
    }
}

struct Thread {
    machine: usize,
    due_ms: i64,
    wake: Sender<Wake>,
    handle: Option<JoinHandle<()>>,
}

/// The threads of all machines.
pub(crate) struct Threads {
    held: Mutex<Held>,
    reports: Mutex<Receiver<(u64, Report)>>,
}

struct Held {
    next: u64,
    threads: BTreeMap<u64, Thread>,
    sender: Sender<(u64, Report)>,
}

impl Threads {
    pub(crate) fn new() -> Self {
        let (sender, reports) = channel();
        Self {
            held: Mutex::new(Held {
                next: 0,
                threads: BTreeMap::new(),
                sender,
            }),
            reports: Mutex::new(reports),
        }
    }

    /// A machine does `work`, beginning now.
    pub(crate) fn spawn(&self, machine: usize, work: Box<dyn FnOnce() + Send>) {
        let mut held = lock(&self.held);
        let id = held.next;
        held.next += 1;
        let (wake, woken) = channel();
        let reports = held.sender.clone();
        let handle = std::thread::spawn(move || {
            let Ok(Wake::Go) = woken.recv() else { return };
            let me = Me {
                id,
                wake: woken,
                reports: reports.clone(),
            };
            ME.set(Some(me));
            let end = match catch_unwind(AssertUnwindSafe(work)) {
                Ok(()) => End::Done,
                Err(thrown) => how_it_ended(thrown),
            };
            // Whoever waits for it is there as long as the world is.
            let _ = reports.send((id, Report::Ended(end)));
        });
        let thread = Thread {
            machine,
            due_ms: now_ms(),
            wake,
            handle: Some(handle),
        };
        held.threads.insert(id, thread);
    }

    /// When the next thread is due, and which.
    pub(crate) fn next(&self) -> Option<(i64, u64)> {
        let held = lock(&self.held);
        let due = held.threads.iter().map(|(id, thread)| (thread.due_ms, *id));
        due.min()
    }

    /// Gives a thread its turn. Says if it ended, and whose it was.
    pub(crate) fn turn(&self, id: u64) -> Option<(usize, End)> {
        let machine = {
            let held = lock(&self.held);
            let thread = held.threads.get(&id)?;
            // One that can't be woken has ended, and has said so.
            let _ = thread.wake.send(Wake::Go);
            thread.machine
        };
        let (from, report) = lock(&self.reports).recv().ok()?;
        let mut held = lock(&self.held);
        match report {
            Report::Waits { until_ms, is_idle } => {
                for (other, thread) in &mut held.threads {
                    if *other == from {
                        thread.due_ms = until_ms;
                    } else if !is_idle && thread.machine == machine {
                        thread.due_ms = thread.due_ms.min(now_ms());
                    }
                }
                None
            }
            Report::Ended(end) => {
                if let Some(handle) = held.threads.remove(&from).and_then(|thread| thread.handle) {
                    join(handle);
                }
                for thread in held.threads.values_mut() {
                    if thread.machine == machine {
                        thread.due_ms = thread.due_ms.min(now_ms());
                    }
                }
                Some((machine, end))
            }
        }
    }

    /// Something happened to a machine: all its threads look.
    pub(crate) fn poke(&self, machine: usize) {
        for thread in lock(&self.held).threads.values_mut() {
            if thread.machine == machine {
                thread.due_ms = thread.due_ms.min(now_ms());
            }
        }
    }

    /// The power of a machine goes.
    pub(crate) fn kill(&self, machine: usize) {
        loop {
            let thread = {
                let mut held = lock(&self.held);
                let found = held
                    .threads
                    .iter()
                    .find(|(_, thread)| thread.machine == machine);
                let Some(id) = found.map(|(id, _)| *id) else {
                    return;
                };
                held.threads.remove(&id)
            };
            let Some(thread) = thread else { return };
            // It is about to end anyhow.
            let _ = thread.wake.send(Wake::Die);
            if let Some(handle) = thread.handle {
                join(handle);
            }
            while lock(&self.reports).try_recv().is_ok() {}
        }
    }
}

fn join(handle: JoinHandle<()>) {
    // How it ended was caught in the thread itself.
    let _ = handle.join();
}

fn how_it_ended(thrown: Box<dyn std::any::Any + Send>) -> End {
    match thrown.downcast::<End>() {
        Ok(end) => *end,
        Err(thrown) => {
            let text = thrown.downcast_ref::<String>().cloned();
            let text =
                text.or_else(|| thrown.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            End::Panic(text.unwrap_or_default())
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A power cut unwinds through whoever holds it; what they did until then has happened.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
