//! The journal of a run: on the staging partition, or in memory as long as there is none.

use std::io;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use sequence::engine::Journal;
use sequence::journal_line;
use wire::event::{Event, EventBody};
use wire::names::RunId;
use wire::order::Order;

use crate::durable;
use crate::files::{Files, Written};
use crate::host::State;

/// A run writes a few hundred lines; a journal beyond this is damaged.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// An order holds a sequence of at most a thousand steps and its packages.
const ORDER_BYTES_MAX: u64 = 16 << 20;
const ORDER_FILE: &str = "order.json";

/// The journal of one run.
pub(crate) struct RunJournal {
    run: RunId,
    state: Arc<dyn State>,
    /// Written before the first line; `None` at the factory, where a cut run begins anew.
    order: Option<Vec<u8>>,
    events: Vec<Event>,
    unwritten: Vec<u8>,
    file: Option<Box<dyn Written>>,
}

impl RunJournal {
    /// The journal of `run`, as far as it got. Cuts off a torn end.
    pub(crate) fn open(
        run: RunId,
        state: Arc<dyn State>,
        order: Option<&Order>,
    ) -> io::Result<Self> {
        let order = order.map(serde_json::to_vec).transpose()?;
        let mut journal = Self {
            run,
            state,
            order,
            events: Vec::new(),
            unwritten: Vec::new(),
            file: None,
        };
        if let Some(folder) = journal.state.folder() {
            let files = journal.state.files();
            journal.events = read_and_mend(files, &journal_path(&folder, run))?;
            journal.settle()?;
        }
        Ok(journal)
    }

    /// Makes everything so far durable, as soon as there is a place for it.
    fn settle(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let Some(folder) = self.state.folder() else {
                return Ok(());
            };
            let files = self.state.files();
            let path = journal_path(&folder, self.run);
            let parent = path.parent().unwrap_or(&folder);
            files.make_folder(parent)?;
            if let Some(order) = self.order.take() {
                let over_half = over_half_path(&folder, self.run);
                match leaves_half_an_os(files, &folder, self.run)? {
                    Some(true) => durable::write(files, &over_half, b"", 0o644)?,
                    // The power may have gone when it was written, and the other run have ended since.
                    Some(false) => files.remove(&over_half)?,
                    None => {}
                }
                let order = durable::with_checksum(&order);
                durable::write(files, &folder.join(ORDER_FILE), &order, 0o600)?;
            }
            if !self.unwritten.is_empty() {
                // The server may have been told these already: going on after a part of them would be another story.
                durable::write(files, &path, &self.unwritten, 0o644)?;
                self.unwritten.clear();
            }
            self.file = Some(files.append(&path)?);
            for folder in [parent, &folder.join("runs"), &folder] {
                files.sync_folder(folder)?;
            }
        }
        if let Some(file) = &mut self.file
            && !self.unwritten.is_empty()
        {
            file.write(&self.unwritten)?;
            file.sync()?;
            self.unwritten.clear();
        }
        Ok(())
    }
}

impl Journal for RunJournal {
    fn events(&self) -> &[Event] {
        &self.events
    }

    fn append(&mut self, event: &Event) -> io::Result<()> {
        self.unwritten
            .extend_from_slice(&journal_line::encode(event));
        self.events.push(event.clone());
        self.settle()
    }
}

fn journal_path(folder: &Utf8Path, run: RunId) -> Utf8PathBuf {
    folder.join("runs").join(run.to_string()).join("journal")
}

fn reported_path(folder: &Utf8Path, run: RunId) -> Utf8PathBuf {
    journal_path(folder, run).with_file_name("reported")
}

fn over_half_path(folder: &Utf8Path, run: RunId) -> Utf8PathBuf {
    journal_path(folder, run).with_file_name("over-half")
}

fn read_and_mend(files: &dyn Files, path: &Utf8Path) -> io::Result<Vec<Event>> {
    let bytes = match files.read(path, JOURNAL_BYTES_MAX) {
        // Damaged: what is behind is no journal of ours.
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            files.cut_off(path, JOURNAL_BYTES_MAX)?;
            files.read(path, JOURNAL_BYTES_MAX)?
        }
        read => read?,
    }
    .unwrap_or_default();
    let (events, good) = journal_line::decode(&bytes);
    if good < bytes.len() {
        files.cut_off(path, good as u64)?;
    }
    Ok(events)
}

/// How far the order on the staging partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OrderState {
    /// There is work to do.
    Unfinished,
    /// Its last word was a failure.
    Failed,
    /// An admin stopped it. The server may not know, and may want it gone on with.
    Stopped,
    /// Done, but the server may not know.
    Unreported,
    /// Done, and the server knows.
    Reported,
}

/// The order on the staging partition and how far it is; `None` if there is none that can be read.
pub(crate) fn load_order(
    files: &dyn Files,
    folder: &Utf8Path,
) -> io::Result<Option<(Order, OrderState)>> {
    let Some(bytes) = files.read(&folder.join(ORDER_FILE), ORDER_BYTES_MAX)? else {
        return Ok(None);
    };
    // Written durably and all at once: one that can't be read is damaged, and the server gives a new one.
    let order = durable::without_checksum(&bytes);
    let Some(order) = order.and_then(|object| serde_json::from_slice::<Order>(&object).ok()) else {
        return Ok(None);
    };
    let found = Found::read(files, folder, order.run)?;
    let state = match &found.last {
        Some(EventBody::RunDone { .. }) => found.over(),
        // Stopped before anything was done: the machine is what it was.
        Some(EventBody::RunAborted { .. }) if !found.is_half() => found.over(),
        Some(EventBody::RunAborted { .. }) => OrderState::Stopped,
        Some(EventBody::RunFailed { .. }) => OrderState::Failed,
        _ => OrderState::Unfinished,
    };
    Ok(Some((order, state)))
}

/// What the staging partition tells of a run.
struct Found {
    last: Option<EventBody>,
    /// Whether it has done anything.
    is_begun: bool,
    /// Whether another run had left the OS half done when it began.
    is_over_half: bool,
    is_reported: bool,
}

impl Found {
    fn read(files: &dyn Files, folder: &Utf8Path, run: RunId) -> io::Result<Self> {
        let path = journal_path(folder, run);
        let events = read_and_mend(files, &path)?;
        Ok(Self {
            is_begun: events
                .iter()
                .any(|event| matches!(event.body, EventBody::StepPlanned { .. })),
            last: events.into_iter().next_back().map(|event| event.body),
            is_over_half: files.is_there(&over_half_path(folder, run))?,
            is_reported: files.is_there(&reported_path(folder, run))?,
        })
    }

    /// Whether the OS may be there in parts only.
    const fn is_half(&self) -> bool {
        let is_done = matches!(self.last, Some(EventBody::RunDone { .. }));
        !is_done && (self.is_begun || self.is_over_half)
    }

    /// What its order is once nothing is left to do.
    const fn over(&self) -> OrderState {
        match self.is_reported {
            true => OrderState::Reported,
            false => OrderState::Unreported,
        }
    }
}

/// Whether what is on the disk when `run` begins was left by another run that didn't end; `None` if it began already.
fn leaves_half_an_os(files: &dyn Files, folder: &Utf8Path, run: RunId) -> io::Result<Option<bool>> {
    match load_order(files, folder)? {
        Some((earlier, _)) if earlier.run == run => Ok(None),
        Some((earlier, _)) => Found::read(files, folder, earlier.run).map(|it| Some(it.is_half())),
        None => Ok(Some(false)),
    }
}

/// Remembers that the server has every event of the run.
pub(crate) fn mark_reported(files: &dyn Files, folder: &Utf8Path, run: RunId) -> io::Result<()> {
    durable::write(files, &reported_path(folder, run), b"", 0o644)
}

/// A run that is gone on with has an end to report again.
pub(crate) fn forget_reported(files: &dyn Files, folder: &Utf8Path, run: RunId) -> io::Result<()> {
    files.remove(&reported_path(folder, run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::SystemFiles;
    use std::sync::Mutex;
    use wire::event::{FinishAction, LogLevel};
    use wire::sequence::CompiledSequence;

    struct Later(Mutex<Option<Utf8PathBuf>>);

    impl State for Later {
        fn folder(&self) -> Option<Utf8PathBuf> {
            self.0.lock().unwrap().clone()
        }

        fn files(&self) -> &dyn Files {
            &SystemFiles
        }
    }

    fn event(run: RunId, seq: u64, body: EventBody) -> Event {
        Event {
            run,
            seq,
            boot: 1,
            uptime_ms: 1,
            body,
        }
    }

    fn line(text: &str) -> EventBody {
        EventBody::Log {
            path: None,
            level: LogLevel::Info,
            text: text.into(),
        }
    }

    fn order(run: RunId) -> Order {
        Order {
            format: 1,
            run,
            device: wire::names::DeviceId::random(),
            deployment: None,
            sequence: CompiledSequence {
                format: 1,
                name: "deploy".parse().unwrap(),
                variables: Default::default(),
                steps: Vec::new(),
            },
            variables: Default::default(),
            packages: Vec::new(),
            expected_seconds: 0,
        }
    }

    #[test]
    fn memory_becomes_disk_and_a_torn_end_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let run = RunId::random();
        let state = Arc::new(Later(Mutex::new(None)));
        let mut journal =
            RunJournal::open(run, Arc::clone(&state) as _, Some(&order(run))).unwrap();
        journal.append(&event(run, 1, line("one"))).unwrap();
        assert!(!folder.join("order.json").exists());
        *state.0.lock().unwrap() = Some(folder.to_owned());
        journal.append(&event(run, 2, line("two"))).unwrap();
        assert_eq!(
            load_order(&SystemFiles, folder).unwrap().unwrap().1,
            OrderState::Unfinished
        );

        let path = journal_path(folder, run);
        let mut bytes = std::fs::read(&path).unwrap();
        let whole = bytes.len();
        bytes.extend_from_slice(b"0123456789abcdef {\"run\":");
        std::fs::write(&path, &bytes).unwrap();
        let mut journal = RunJournal::open(run, state, None).unwrap();
        assert_eq!(journal.events().len(), 2);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole as u64);
        journal
            .append(&event(
                run,
                3,
                EventBody::RunDone {
                    action: FinishAction::Stay,
                },
            ))
            .unwrap();
        assert_eq!(
            load_order(&SystemFiles, folder).unwrap().unwrap().1,
            OrderState::Unreported
        );
        mark_reported(&SystemFiles, folder, run).unwrap();
        assert_eq!(
            load_order(&SystemFiles, folder).unwrap().unwrap().1,
            OrderState::Reported
        );
        forget_reported(&SystemFiles, folder, run).unwrap();
        forget_reported(&SystemFiles, folder, run).unwrap();
        assert_eq!(
            load_order(&SystemFiles, folder).unwrap().unwrap().1,
            OrderState::Unreported
        );
        let reason = "an admin stopped the run".to_owned();
        let stopped = event(run, 4, EventBody::RunAborted { reason });
        journal.append(&stopped).unwrap();
        assert_eq!(
            load_order(&SystemFiles, folder).unwrap().unwrap().1,
            OrderState::Unreported,
            "nothing was done yet"
        );
        let planned = event(
            run,
            5,
            EventBody::StepPlanned {
                path: "disk".parse().unwrap(),
                plan: serde_json::Value::Null,
                text: String::new(),
            },
        );
        journal.append(&planned).unwrap();
        journal.append(&stopped).unwrap();
        assert_eq!(
            load_order(&SystemFiles, folder).unwrap().unwrap().1,
            OrderState::Stopped
        );
    }

    /// The power goes in the middle of each write.
    struct Torn(Box<dyn Written>);

    impl Written for Torn {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.write(&bytes[..bytes.len() / 2])?;
            Err(io::ErrorKind::Interrupted.into())
        }

        fn sync(&mut self) -> io::Result<()> {
            self.0.sync()
        }
    }

    struct Tearing;

    impl Files for Tearing {
        fn read(&self, path: &Utf8Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
            SystemFiles.read(path, bytes_max)
        }

        fn is_there(&self, path: &Utf8Path) -> io::Result<bool> {
            SystemFiles.is_there(path)
        }

        fn make_folder(&self, path: &Utf8Path) -> io::Result<()> {
            SystemFiles.make_folder(path)
        }

        fn create(&self, path: &Utf8Path, mode: u32) -> io::Result<Box<dyn Written>> {
            Ok(Box::new(Torn(SystemFiles.create(path, mode)?)))
        }

        fn append(&self, path: &Utf8Path) -> io::Result<Box<dyn Written>> {
            Ok(Box::new(Torn(SystemFiles.append(path)?)))
        }

        fn cut_off(&self, path: &Utf8Path, length: u64) -> io::Result<()> {
            SystemFiles.cut_off(path, length)
        }

        fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
            SystemFiles.rename(from, to)
        }

        fn remove(&self, path: &Utf8Path) -> io::Result<()> {
            SystemFiles.remove(path)
        }

        fn sync_folder(&self, path: &Utf8Path) -> io::Result<()> {
            SystemFiles.sync_folder(path)
        }
    }

    struct LaterTearing(Mutex<Option<Utf8PathBuf>>);

    impl State for LaterTearing {
        fn folder(&self) -> Option<Utf8PathBuf> {
            self.0.lock().unwrap().clone()
        }

        fn files(&self) -> &dyn Files {
            &Tearing
        }
    }

    #[test]
    fn what_was_in_memory_comes_to_the_disk_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let run = RunId::random();
        let state = Arc::new(LaterTearing(Mutex::new(None)));
        let mut journal = RunJournal::open(run, Arc::clone(&state) as _, None).unwrap();
        for seq in 1..=2 {
            journal.append(&event(run, seq, line("told"))).unwrap();
        }
        *state.0.lock().unwrap() = Some(folder.to_owned());
        journal.append(&event(run, 3, line("three"))).unwrap_err();
        let there = Later(Mutex::new(Some(folder.to_owned())));
        let journal = RunJournal::open(run, Arc::new(there), None).unwrap();
        assert!(journal.events().is_empty(), "a part is another story");
    }

    #[test]
    fn what_another_run_left_half_done_stays_so_until_one_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let state = Arc::new(Later(Mutex::new(Some(folder.to_owned()))));
        let run = |bodies: &[EventBody]| {
            let run = RunId::random();
            let mut journal =
                RunJournal::open(run, Arc::clone(&state) as _, Some(&order(run))).unwrap();
            for (seq, body) in (1..).zip(bodies) {
                journal.append(&event(run, seq, body.clone())).unwrap();
            }
            load_order(&SystemFiles, folder).unwrap().unwrap().1
        };
        let planned = EventBody::StepPlanned {
            path: "os".parse().unwrap(),
            plan: serde_json::Value::Null,
            text: String::new(),
        };
        let stopped = EventBody::RunAborted {
            reason: "an admin stopped the run".to_owned(),
        };
        let done = EventBody::RunDone {
            action: FinishAction::Stay,
        };
        let at_once = [stopped.clone()];
        assert_eq!(run(&at_once), OrderState::Unreported);
        assert_eq!(run(&[planned, stopped]), OrderState::Stopped);
        assert_eq!(run(&at_once), OrderState::Stopped);
        assert_eq!(run(&at_once), OrderState::Stopped);
        assert_eq!(run(&[done]), OrderState::Unreported);
        assert_eq!(run(&at_once), OrderState::Unreported);
    }

    #[test]
    fn a_damaged_order_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        assert!(load_order(&SystemFiles, folder).unwrap().is_none());
        std::fs::write(folder.join("order.json"), b"{\"format\":1").unwrap();
        assert!(load_order(&SystemFiles, folder).unwrap().is_none());
    }
}
