//! Write-back that begins while the work goes on, so that the sync at its end finds little left to do.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::error::ContentError;

/// How often what was written so far is sent to the disk: measured best between 150 and 300 ms.
const EVERY: Duration = Duration::from_millis(200);

/// Does `work` while another thread keeps calling `flush`, which writes back what the work has written.
///
/// # Errors
/// With that of the work; else with the one of a write-back: the kernel tells it only once per open file, so that a
/// later sync would not hear of it.
pub(crate) fn while_flushing<T>(
    flush: impl Fn() -> io::Result<()> + Sync,
    work: impl FnOnce() -> Result<T, ContentError>,
) -> Result<T, ContentError> {
    let (done, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let flusher = scope.spawn(|| {
            let wait = wait;
            while let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(EVERY) {
                flush()?;
            }
            Ok::<_, io::Error>(())
        });
        let result = work()?;
        drop(done);
        match flusher.join() {
            Ok(flushed) => flushed
                .map_err(ContentError::stream("write the target"))
                .map(|()| result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
