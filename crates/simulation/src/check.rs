//! What must hold once everything has come to rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use sequence::journal_line;
use wire::audit::Verifier;
use wire::event::{Event, EventBody};

use crate::office::SECRET;
use crate::world::World;

/// The step whose script must not run twice by itself.
const ONCE_STEP: &str = "once";

/// Looks at the database and at every disk.
pub(crate) fn check(world: &Arc<World>) -> Result<()> {
    let runs: Vec<(String, String, String)> = world
        .office
        .rows("SELECT id, device, state FROM runs")
        .context("cannot read the runs")?;
    let stored: Vec<(String, Vec<u8>)> = world
        .office
        .rows(
            "SELECT events.run, events.bytes FROM events JOIN runs ON runs.id = events.run \
             AND runs.take = events.take ORDER BY events.run, events.seq",
        )
        .context("cannot read the events")?;
    let mut told: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (run, bytes) in stored {
        told.entry(run).or_default().push(bytes);
    }
    for (run, device, state) in &runs {
        let told = told.remove(run).unwrap_or_default();
        one_run(world, run, device, state, &told);
    }
    scripts(world);
    secrets(world)?;
    audit(world)
}

/// What machines were given lies nowhere: neither on their disks nor in the server's database.
fn secrets(world: &Arc<World>) -> Result<()> {
    let holds = |bytes: &[u8]| {
        let secret = SECRET.as_bytes();
        bytes.windows(secret.len()).any(|part| part == secret)
    };
    let on_disks: Vec<String> = world.change(|world| {
        let disks = world
            .laptops
            .iter()
            .map(|laptop| (&laptop.serial, &laptop.disk));
        disks
            .filter(|(_, disk)| disk.all_bytes().any(holds))
            .map(|(serial, _)| serial.clone())
            .collect()
    });
    for serial in on_disks {
        world.wrong(format!("{serial}: a secret lies on its disk"));
    }
    if holds(&world.office.bytes()?) {
        world.wrong("a secret lies in the server's database".to_owned());
    }
    Ok(())
}

/// What a run's machine wrote is what the database has.
fn one_run(world: &Arc<World>, run: &str, device: &str, state: &str, told: &[Vec<u8>]) {
    let path = Utf8PathBuf::from(format!("/staging/runs/{run}/journal"));
    let (journal, is_past, was_restored) = world.change(|world| {
        let laptop = world.laptops.iter().find(|laptop| laptop.device == device);
        let journal = laptop.and_then(|laptop| laptop.disk.read(&path).map(<[u8]>::to_vec));
        let is_past = laptop.is_none_or(|laptop| laptop.past.contains(&path));
        (journal, is_past, world.was_restored)
    });
    // A run that was begun and never reached a staging partition has no journal.
    let Some(journal) = journal else { return };
    let lines = journal.split(|byte| *byte == b'\n');
    let written: Vec<&[u8]> = lines
        .filter_map(|line| Some(&line[line.iter().position(|byte| *byte == b' ')? + 1..]))
        .collect();
    let same = told
        .iter()
        .zip(&written)
        .take_while(|(told, written)| told == *written)
        .count();
    if same < told.len() {
        world.wrong(format!(
            "run {run}: event {} in the database isn't what its machine wrote",
            same + 1
        ));
    } else if told.len() < written.len() && !is_past {
        world.wrong(format!(
            "run {run}: the database has {} events, its machine wrote {}",
            told.len(),
            written.len()
        ));
    }
    let says = match journal_line::decode(&journal)
        .0
        .last()
        .map(|event| &event.body)
    {
        Some(EventBody::RunDone { .. }) => "completed",
        Some(EventBody::RunFailed { .. }) => "failed",
        Some(EventBody::RunAborted { .. }) => "aborted",
        _ => "running",
    };
    if says != state && says == "completed" && !is_past && !was_restored {
        world.wrong(format!("run {run} is {state}, its machine says {says}"));
    }
}

/// No script ran that its journal hasn't announced, and none was announced twice unless the run failed in between.
fn scripts(world: &Arc<World>) {
    let wrongs: Vec<String> = world.change(|world| {
        let laptops = world.laptops.iter();
        laptops
            .filter_map(|laptop| {
                let (mut announced, mut ends) = (0, 0);
                for (_, journal) in laptop.disk.files("journal") {
                    let events = journal_line::decode(journal).0;
                    announced += count(&events, |body| {
                        matches!(body, EventBody::StepPlanned { path, .. } if path.as_str() == ONCE_STEP)
                    });
                    ends += 1 + count(&events, |body| {
                        matches!(body, EventBody::RunFailed { .. } | EventBody::RunAborted { .. })
                    });
                }
                (laptop.once_ran > announced || announced > ends).then(|| {
                    format!(
                        "{}: a script ran {} times, was announced {announced} times in {ends} runs",
                        laptop.serial, laptop.once_ran
                    )
                })
            })
            .collect()
    });
    wrongs.into_iter().for_each(|wrong| world.wrong(wrong));
}

fn count(events: &[Event], is_one: impl Fn(&EventBody) -> bool) -> usize {
    events.iter().filter(|event| is_one(&event.body)).count()
}

fn audit(world: &Arc<World>) -> Result<()> {
    let admin = world.office.admin();
    let mut chain = Verifier::new(None);
    let mut after = 0;
    loop {
        let rows = admin.audit_after(after).context("cannot read the audit")?;
        let Some(last) = rows.last() else { break };
        after = last.number;
        for row in &rows {
            if let Err(broken) = chain.next(row) {
                world.wrong(format!("the audit's chain is broken: {broken}"));
                return Ok(());
            }
        }
    }
    Ok(())
}
