//! How many files this process may have open: every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as is needed. If that isn't allowed, raises it as far as it may be, and answers how far.
pub(crate) fn allow(needed: u64) -> Result<(), u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let most = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit {
        current: Some(needed.min(most)),
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) if needed <= most => Ok(()),
        Ok(()) => Err(most),
        Err(_) => Err(limit.current.unwrap_or(most)),
    }
}

#[cfg(test)]
mod tests {
    use super::allow;

    #[test]
    fn what_is_allowed_already_needs_nothing_and_what_never_is_says_how_far() {
        assert_eq!(allow(3), Ok(()));
        if let Err(most) = allow(u64::MAX) {
            assert!(most > 3);
            assert_eq!(allow(most), Ok(()));
        }
    }
}
