//! Media that fail at a read, and media that are pulled out at one, at each read that a staging needs: the agent's own staging, on a machine
//! made of files, says so, starts nothing, and ends well with a good one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    fn of(bytes: &[u8], fails: Fails) -> BlockFile {
        let medium = Self {
            bytes: bytes.to_vec(),
            fails,
            reads: AtomicU64::new(0),
        };
        BlockFile::fake(Arc::new(medium), bytes.len() as u64)
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
    let (bundle, machine, trust) = (TestBundle::new(1), FileMachine::new(), trust());
    let mut failed = 0;
    for read in 1.. {
        let mut is_needed = false;
        for fails in [Fails::Once(read), Fails::From(read)] {
            machine.make_blank();
            match machine.stage(Medium::of(&bundle.bytes, fails), &trust) {
                // Behind the last chunk lies what nobody needs any more.
                Ok(()) => bundle.assert_staged(&machine, &format!("{fails:?}")),
                Err(errors) => {
                    assert!(errors.len() > 1, "{fails:?}: {errors:?} doesn't say why");
                    bundle.assert_nothing_else(&machine, &format!("{fails:?}"));
                    is_needed = true;
                    failed += 1;
                }
            }
            let again = machine.stage(Medium::of(&bundle.bytes, Fails::Never), &trust);
            assert!(again.is_ok(), "{fails:?}: {again:?}");
            bundle.assert_staged(&machine, &format!("{fails:?}, then a good one"));
        }
        if !is_needed {
            break;
        }
    }
    assert!(failed > 20, "only {failed} were noticed");
    eprintln!("{failed} media failed or were pulled out, at every read that is needed");
}
