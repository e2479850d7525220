//! Takes an accepted import back: its new machines go, its changed ones get their old values. What happened to a
//! machine since counts more than the wish to undo.

use std::collections::BTreeSet;

use wire::imports::{KeptRow, RowResult, UndoImport, UndoReport};
use wire::reasons::KeptReason;

use super::changes::Changes;
use super::drafts::DoneRow;
use super::plan::Fleet;
use crate::error::{Doing as _, Failure};
use crate::fleet::identity::name_key;
use crate::people::roles::Reach;

/// What is to be done with the rows of one import.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    pub(crate) changes: Changes,
    pub(crate) report: UndoReport,
}

/// Devices that something else depends on, whatever their values are.
pub(crate) struct InUse {
    checked_in: BTreeSet<String>,
    referred_to: BTreeSet<String>,
}

#[cfg(test)]
impl InUse {
    pub(crate) fn of<const N: usize>(checked_in: [&str; N]) -> Self {
        Self {
            checked_in: checked_in.into_iter().map(str::to_owned).collect(),
            referred_to: BTreeSet::new(),
        }
    }
}

/// Decides every row; pure.
pub(crate) fn plan(
    rows: &[DoneRow],
    fleet: &Fleet,
    in_use: &InUse,
    reach: &Reach,
    wish: &UndoImport,
) -> Result<Undo, Failure> {
    let mut undo = Undo::default();
    undo.report.dry_run = wish.dry_run;
    for row in rows {
        let why = match row.result() {
            RowResult::New | RowResult::Changed => {
                decide(row, fleet, in_use, reach, wish, &mut undo)?
            }
            RowResult::Unchanged => {
                undo.report.unchanged += 1;
                None
            }
            _ => continue,
        };
        match why {
            Some(why) => undo.report.kept.push(KeptRow {
                line: u64::try_from(row.line).unwrap_or(0),
                serial: row.serial.clone(),
                why: why.to_string(),
                said: Some(why),
            }),
            None if row.joined == 1 => undo.changes.leave.push(row.device.clone()),
            None => {}
        }
    }
    Ok(undo)
}

/// Puts a row where it belongs, or says why it stays.
fn decide(
    row: &DoneRow,
    fleet: &Fleet,
    in_use: &InUse,
    reach: &Reach,
    wish: &UndoImport,
    undo: &mut Undo,
) -> Result<Option<KeptReason>, Failure> {
    let key = name_key(&row.serial).unwrap_or_default();
    let Some(known) = fleet.get(&key).filter(|known| known.device == row.device) else {
        return Ok(Some(KeptReason::Gone));
    };
    if !reach.covers(&known.values.site) {
        return Ok(Some(KeptReason::OtherSite));
    }
    let (was, became) = (DoneRow::values(&row.was)?, DoneRow::values(&row.became)?);
    let changed_since: Vec<String> = became
        .changes_to(&known.values)
        .into_iter()
        .map(|change| format!("{} {:?}", change.field, change.new))
        .collect();
    let is_new = row.result() == RowResult::New;
    if is_new && in_use.checked_in.contains(&row.device) {
        return Ok(Some(KeptReason::CheckedIn));
    }
    if is_new && in_use.referred_to.contains(&row.device) {
        return Ok(Some(KeptReason::InUse));
    }
    if !changed_since.is_empty() && !wish.force {
        let now = changed_since.join(", ");
        return Ok(Some(KeptReason::ChangedSince { now }));
    }
    if is_new {
        undo.changes.remove.push(row.device.clone());
        undo.report.deleted += 1;
    } else {
        undo.changes.sites.insert(was.site.clone(), None);
        undo.changes.assets.push((row.device.clone(), was));
        undo.report.restored += 1;
    }
    Ok(None)
}

/// Looks up what depends on the devices of an import.
pub(crate) async fn in_use(connection: &mut sqlx::AnyConnection) -> Result<InUse, Failure> {
    let checked_in: Vec<(String,)> = sqlx::query_as(
        "SELECT id FROM devices WHERE checked_in_at_ms > 0 UNION SELECT device FROM device_keys",
    )
    .fetch_all(&mut *connection)
    .await
    .doing("read which machines have checked in")?;
    let referred_to: Vec<(String,)> =
        sqlx::query_as("SELECT device FROM runs UNION SELECT device FROM assignments")
            .fetch_all(&mut *connection)
            .await
            .doing("read which machines are in use")?;
    let set = |rows: Vec<(String,)>| rows.into_iter().map(|(device,)| device).collect();
    Ok(InUse {
        checked_in: set(checked_in),
        referred_to: set(referred_to),
    })
}
