//! How long work says where it is.

/// Told where some work is. All methods may be called often.
pub trait Progress {
    /// What is being done now: a short phrase for people, such as `downloading linux-image-amd64`.
    fn phase(&self, text: &str);

    /// Of the current phase, `done` of `total` bytes are done; `total` is 0 if unknown.
    fn bytes(&self, _done: u64, _total: u64) {}
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _text: &str) {}
}
