//! Media that fail at a read, and media that are pulled out at one: the agent's own staging, on a machine made of files, says so, starts
//! nothing, and ends well with a good one.
//!
//! `FORESTAGE_FAILING_OPERATIONS=1000000` fails at every read instead of about forty (`cargo xtask nightly` does; `power_cuts.rs` heeds
//! it, too).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use testkit::chance::variable;

use crate::block::{BlockFile, FakeDisk};
use crate::machine::made_of_files::FileMachine;
use crate::test_bundle::{TestBundle, trust};

const EIO: i32 = 5;
const ENODEV: i32 = 19;

/// What becomes of a read.
#[derive(Debug, Clone, Copy)]
enum Fails {
    Never,
    /// This one, counted from 1; the next goes well.
    Once(u64),
    /// This one and all that follow.
    From(u64),
}

/// The medium.
#[derive(Debug)]
struct Medium {
    bytes: Vec<u8>,
    fails: Fails,
    reads: AtomicU64,
}

impl Medium {
    fn new(bytes: &[u8], fails: Fails) -> (BlockFile, Arc<Self>) {
        let medium = Arc::new(Self {
            bytes: bytes.to_vec(),
            fails,
            reads: AtomicU64::new(0),
        });
        let length = bytes.len() as u64;
        (BlockFile::fake(Arc::clone(&medium) as _, length), medium)
    }
}

impl FakeDisk for Medium {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let read = self.reads.fetch_add(1, Ordering::Relaxed) + 1;
        match self.fails {
            Fails::Once(one) if read == one => return Err(io::Error::from_raw_os_error(EIO)),
            Fails::From(first) if read >= first => {
                return Err(io::Error::from_raw_os_error(ENODEV));
            }
            Fails::Never | Fails::Once(_) | Fails::From(_) => {}
        }
        let from = usize::try_from(at).expect("a small medium");
        let bytes = self.bytes.get(from..).unwrap_or_default();
        let length = buffer.len().min(bytes.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn write_all_at(&self, _bytes: &[u8], _at: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_medium_that_fails_or_is_pulled_out_stages_nothing_by_half() {
    let wanted = variable("FORESTAGE_FAILING_OPERATIONS").unwrap_or(40);
    let (bundle, machine, trust) = (TestBundle::new(1), FileMachine::new(), trust());
    let honest = || Medium::new(&bundle.bytes, Fails::Never);
    let (file, medium) = honest();
    machine.make_blank();
    machine.stage(file, &trust).expect("a good medium");
    let reads = medium.reads.load(Ordering::Relaxed);
    let step = (2 * reads / wanted).max(1);
    let (mut tried, mut failed) = (0, 0);
    for read in (1..=reads).step_by(usize::try_from(step).expect("it fits")) {
        for fails in [Fails::Once(read), Fails::From(read)] {
            machine.make_blank();
            let (file, _) = Medium::new(&bundle.bytes, fails);
            match machine.stage(file, &trust) {
                // Behind the last chunk lies what nobody needs any more.
                Ok(()) => bundle.assert_staged(&machine, &format!("{fails:?}")),
                Err(errors) => {
                    assert!(errors.len() > 1, "{fails:?}: {errors:?} doesn't say why");
                    bundle.assert_nothing_else(&machine, &format!("{fails:?}"));
                    failed += 1;
                }
            }
            let (file, _) = honest();
            let again = machine.stage(file, &trust);
            assert!(again.is_ok(), "{fails:?}: {again:?}");
            bundle.assert_staged(&machine, &format!("{fails:?}, then a good one"));
            tried += 1;
        }
    }
    assert!(failed * 2 > tried, "only {failed} of {tried} were noticed");
    eprintln!(
        "{tried} media failed or were pulled out at one of {reads} reads; {failed} ended there"
    );
}
