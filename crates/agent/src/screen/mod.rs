//! The device's console screen: what runs, how far, how long still, where content comes from, whether the machine may
//! be switched off; at the end DONE or FAILED, to be read from across a room.
//!
//! ```text
//! ScreenModel ──layout──► Scene (a list of boxes, strokes, texts) ──paint──► Canvas ──write──► /dev/fb0
//! ```
//!
//! Everything up to the canvas is pure. Only what differs between two scenes is painted and written, so that a
//! progress bar costs a slow processor a few thousand pixels and not a million. Where there is no framebuffer (or no
//! font) the same is said in lines on the console. Nothing is ever read from a keyboard: there is nothing to answer.

mod canvas;
mod code;
mod display;
mod font;
mod framebuffer;
mod layout;
mod model;
mod plain;
mod scene;
#[cfg(test)]
mod tests;
mod text;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) use model::{
    ErrorText, MachineText, Phase, PowerSafety, RunText, ScreenModel, StepText,
};

use display::Display;

/// Nobody reads faster, and a slow processor has better things to do.
const DRAWS_APART: Duration = Duration::from_millis(250);
/// The clock shows seconds.
const TICK: Duration = Duration::from_secs(1);

/// The screen of this machine: `start()` it once in the boot image, `show()` what changed. Dropped, it shows the last
/// model it was given and ends. (In the installed OS the screen belongs to the OS; don't start it there.)
pub(crate) struct Screen {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    mailbox: Mutex<Mailbox>,
    wake: Condvar,
}

#[derive(Default)]
struct Mailbox {
    /// The latest model, and when it came.
    latest: Option<(ScreenModel, Instant)>,
    /// Whether the thread has not seen `latest` yet.
    is_new: bool,
    is_ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Mailbox> {
        // A mailbox is whole at any moment, even if whoever held it panicked.
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Screen {
    /// Starts the screen's own thread, with "Starting" on it. Never fails: without a framebuffer or a font it writes
    /// lines to the console, and if there is no console either nobody is looking.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self::start_on(Display::of_this_machine)
    }

    fn start_on(display: impl FnOnce() -> Display + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        shared.lock().latest = Some((ScreenModel::default(), Instant::now()));
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("screen".to_owned())
            .spawn(move || run(&for_thread, &mut display()))
            // A machine that can't start a thread has worse problems than its screen.
            .ok();
        Self { shared, thread }
    }

    /// Shows `model`. Returns at once; may be called as often as you like, only the latest counts.
    pub(crate) fn show(&self, model: ScreenModel) {
        let mut mailbox = self.shared.lock();
        mailbox.latest = Some((model, Instant::now()));
        mailbox.is_new = true;
        self.shared.wake.notify_all();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.shared.lock().is_ended = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // If it panicked there is nothing left to show, and the run itself matters more.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, display: &mut Display) {
    loop {
        let mut mailbox = shared.lock();
        mailbox.is_new = false;
        let is_last = mailbox.is_ended;
        let latest = mailbox.latest.clone();
        drop(mailbox);
        if let Some((model, since)) = latest {
            display.show(&counted_on(model, since.elapsed()));
        }
        if is_last {
            return;
        }
        let mailbox = shared.lock();
        let mailbox = shared
            .wake
            .wait_timeout_while(mailbox, DRAWS_APART, |mailbox| !mailbox.is_ended);
        let (mailbox, _) = mailbox.unwrap_or_else(PoisonError::into_inner);
        let idle = |mailbox: &mut Mailbox| !mailbox.is_ended && !mailbox.is_new;
        drop(
            shared
                .wake
                .wait_timeout_while(mailbox, TICK - DRAWS_APART, idle),
        );
    }
}

/// The model as it is `passed` after it was shown.
fn counted_on(mut model: ScreenModel, passed: Duration) -> ScreenModel {
    if model.phase.is_at_work() {
        model.elapsed = model.elapsed.map(|elapsed| elapsed.saturating_add(passed));
        model.remaining = model
            .remaining
            .map(|remaining| remaining.saturating_sub(passed));
    }
    model
}
