//! What a crash leaves on the disk.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Has a crash of this process, or of a program that it starts, leave no copy of its memory on the disk: a server's holds keys and
/// secrets.
pub(crate) fn forbid() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Less is always allowed.
    let _set = setrlimit(Resource::Core, none);
}
