//! Handing out, taking back, and undoing either. Each is one transaction, so that a device is never with two.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use wire::assignments::{
    AssignmentRow, CLASS_PAIRS_MAX, ClassPairs, ClassPairsReply, HandOut, HandOutReply,
    NOTE_CHARS_MAX, TakeBack, Warning,
};
use wire::names::{AssignmentId, DeviceId};
use wire::webhooks::WebhookEvent;

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored_text};
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::people::reach::Placed;
use crate::pupils::store::{
    StoredAssignment, StoredPupil, assignments_sql, pupil_for_in, pupils_sql,
};
use crate::routes::{parse, read_json};
use crate::state::{AppState, Change, now_ms};
use crate::text::clean;
use crate::webhooks::outbox::emit_assignment;

/// How long a hand-out or a return can be undone: until it is noticed that it was a mistake. Later it is history.
const UNDONE_WITHIN_MS: i64 = 24 * 3600 * 1000;

/// `POST /api/v1/assignments`
pub(crate) async fn post(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<HandOutReply>, Failure> {
    let ask: HandOut = read_json(body, JSON_BYTES_MAX).await?;
    let mut db = state.db().write().await?;
    let reply = hand_out(&mut db, &user, &ask).await?;
    commit(db).await?;
    for row in reply.ended.iter().chain([&reply.made]) {
        state.changed(Change::Device(row.device));
    }
    Ok(Json(reply))
}

/// `POST /api/v1/assignments/pairs`
pub(crate) async fn post_pairs(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<ClassPairsReply>, Failure> {
    let ask: ClassPairs = read_json(body, JSON_BYTES_MAX).await?;
    if ask.pairs.len() > CLASS_PAIRS_MAX {
        return Err(Failure::bad_request(
            "too-many-pairs",
            format!("at most {CLASS_PAIRS_MAX} pairs go in one request"),
        ));
    }
    let mut db = state.db().write().await?;
    let mut made = Vec::with_capacity(ask.pairs.len());
    for pair in &ask.pairs {
        let ask = HandOut {
            assignment: None,
            device: pair.device,
            pupil: pair.pupil,
            note: String::new(),
            swap: false,
            additional: false,
        };
        made.push(hand_out(&mut db, &user, &ask).await?.made);
    }
    commit(db).await?;
    for row in &made {
        state.changed(Change::Device(row.device));
    }
    Ok(Json(ClassPairsReply { made }))
}

/// `POST /api/v1/assignments/{id}/return`
pub(crate) async fn take_back(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<AssignmentRow>, Failure> {
    let id: AssignmentId = parse(&id)?;
    let ask: TakeBack = read_json(body, JSON_BYTES_MAX).await?;
    let mut db = state.db().write().await?;
    let assignment = find(&mut db, id).await?;
    require_device(&user, &assignment)?;
    if assignment.returned_at_ms == 0 {
        end(&mut db, &user, &assignment, "", &ask.condition).await?;
    } else if !ask.condition.is_empty() {
        sqlx::query("UPDATE assignments SET condition_note = $1 WHERE id = $2")
            .bind(clean(&ask.condition, NOTE_CHARS_MAX))
            .bind(&assignment.id)
            .execute(&mut *db)
            .await
            .doing("note the condition of a device")?;
    }
    let row = row(&mut db, &user, id).await?;
    commit(db).await?;
    state.changed(Change::Device(row.device));
    Ok(Json(row))
}

/// `POST /api/v1/assignments/{id}/undo`: as if it had never been handed out.
pub(crate) async fn undo(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<AssignmentRow>, Failure> {
    let id: AssignmentId = parse(&id)?;
    let mut db = state.db().write().await?;
    let assignment = find(&mut db, id).await?;
    require_device(&user, &assignment)?;
    if assignment.undone == 0 {
        if let Some(refusal) = undo_refusal(&assignment, now_ms()) {
            return Err(refusal);
        }
        undo_hand_out(&mut db, &user, &assignment).await?;
    }
    let row = row(&mut db, &user, id).await?;
    commit(db).await?;
    state.changed(Change::Device(row.device));
    Ok(Json(row))
}

/// `POST /api/v1/assignments/{id}/reopen`: as if it had never come back.
pub(crate) async fn reopen(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<AssignmentRow>, Failure> {
    let id: AssignmentId = parse(&id)?;
    let mut db = state.db().write().await?;
    let assignment = find(&mut db, id).await?;
    require_device(&user, &assignment)?;
    if assignment.undone != 0 {
        return Err(was_undone());
    }
    if assignment.returned_at_ms != 0 {
        if let Some(refusal) = reopen_refusal(&assignment, now_ms()) {
            return Err(refusal);
        }
        reopen_assignment(&mut db, &assignment).await?;
        audit(
            &mut db,
            &user.name,
            "return-undone",
            &assignment.serial,
            &of(&assignment),
        )
        .await?;
    }
    let row = row(&mut db, &user, id).await?;
    commit(db).await?;
    state.changed(Change::Device(row.device));
    Ok(Json(row))
}

/// Hands a device out inside a transaction.
pub(super) async fn hand_out(
    db: &mut Write,
    user: &User,
    ask: &HandOut,
) -> Result<HandOutReply, Failure> {
    let id = ask.assignment.unwrap_or_else(AssignmentId::random);
    if let Some(known) = find_any(db, id).await? {
        return repeated(db, user, ask, known).await;
    }
    let device = device_for_in(db, user, ask.device).await?;
    let pupil = pupil_for_in(db, user, ask.pupil).await?;
    if pupil.erased_at_ms != 0 {
        return Err(Failure::not_found(format!("pupil {}", ask.pupil)));
    }
    let in_the_way = in_the_way(db, ask, &pupil).await?;
    if let Some(refusal) = refusal(user, ask, &device, &pupil, &in_the_way) {
        return Err(refusal);
    }
    let mut ended = Vec::new();
    for assignment in &in_the_way {
        end(db, user, assignment, &id.to_string(), "").await?;
        ended.extend(row_of(db, user, &assignment.id).await?);
    }
    sqlx::query(
        "INSERT INTO assignments (id, device, pupil, handed_out_at_ms, handed_out_by, note, returned_at_ms, \
         returned_by, condition_note, ended_by, undone) VALUES ($1, $2, $3, $4, $5, $6, 0, '', '', '', 0)",
    )
    .bind(id.to_string())
    .bind(&device.id)
    .bind(&pupil.id)
    .bind(now_ms())
    .bind(&user.name)
    .bind(clean(&ask.note, NOTE_CHARS_MAX))
    .execute(&mut **db)
    .await
    .doing("store an assignment")?;
    audit(
        db,
        &user.name,
        "device-handed-out",
        &device.serial,
        &format!("to pupil {}", pupil.id),
    )
    .await?;
    tell(db, WebhookEvent::AssignmentMade, &device.id, &pupil.id).await?;
    Ok(HandOutReply {
        made: row(db, user, id).await?,
        ended,
        warnings: warnings(&device, &pupil),
    })
}

/// The same request once more: the same answer, if it still holds.
async fn repeated(
    db: &mut Write,
    user: &User,
    ask: &HandOut,
    known: StoredAssignment,
) -> Result<HandOutReply, Failure> {
    let same = known.device == ask.device.to_string() && known.pupil == ask.pupil.to_string();
    require_device(user, &known)?;
    if !same {
        return Err(Failure::conflict(
            "id-taken",
            "another assignment has this id",
        ));
    }
    if known.undone != 0 {
        return Err(was_undone());
    }
    let id = known.id()?;
    let ended: Vec<StoredAssignment> =
        sqlx::query_as(assignments_sql!("WHERE assignments.ended_by = $1"))
            .bind(&known.id)
            .fetch_all(&mut **db)
            .await
            .doing("read what an assignment ended")?;
    let ended = ended
        .into_iter()
        .filter_map(|row| row.row_for(user).transpose())
        .collect::<Result<_, _>>()?;
    Ok(HandOutReply {
        made: row(db, user, id).await?,
        ended,
        warnings: Vec::new(),
    })
}

/// Open assignments of the device, and of the pupil unless they may have several.
async fn in_the_way(
    db: &mut Write,
    ask: &HandOut,
    pupil: &StoredPupil,
) -> Result<Vec<StoredAssignment>, Failure> {
    let open: Vec<StoredAssignment> = sqlx::query_as(assignments_sql!(
        "WHERE assignments.returned_at_ms = 0 AND (assignments.device = $1 OR assignments.pupil = $2) \
         ORDER BY assignments.handed_out_at_ms"
    ))
    .bind(ask.device.to_string())
    .bind(&pupil.id)
    .fetch_all(&mut **db)
    .await
    .doing("read who has a device")?;
    let device = ask.device.to_string();
    let may_have_more = ask.additional || pupil.several != 0;
    Ok(open
        .into_iter()
        .filter(|row| row.device == device || !may_have_more)
        .collect())
}

/// Why it isn't handed out, if so.
fn refusal(
    user: &User,
    ask: &HandOut,
    device: &StoredHandOutDevice,
    pupil: &StoredPupil,
    in_the_way: &[StoredAssignment],
) -> Option<Failure> {
    let with = in_the_way.iter().find(|row| row.device == device.id);
    if with.is_some_and(|row| row.pupil == pupil.id) {
        let message = format!("{} has {} already", pupil.name, device.serial);
        return Some(Failure::conflict("has-it-already", message));
    }
    if ask.swap {
        return None;
    }
    let swap_hint = "take it back first, or hand it out as a swap";
    if let Some(row) = with {
        let who = if user.reach.covers(&row.pupil_site) {
            person(&row.name, &row.class)
        } else {
            "a pupil of another site".into()
        };
        let message = format!("{} is with {who}", device.serial);
        return Some(Failure::conflict("device-handed-out", message).hint(swap_hint));
    }
    let held = in_the_way.first()?;
    let message = format!(
        "{} has {} already",
        person(&pupil.name, &pupil.class),
        held.serial
    );
    Some(
        Failure::conflict("pupil-has-device", message)
            .hint("take that one back first, hand this one out as a swap, or as an additional one"),
    )
}

fn person(name: &str, class: &str) -> String {
    if class.is_empty() {
        name.to_owned()
    } else {
        format!("{name} ({class})")
    }
}

fn warnings(device: &StoredHandOutDevice, pupil: &StoredPupil) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |code: &str, text: String| {
        warnings.push(Warning {
            code: code.into(),
            text,
        });
    };
    if !device.is_ready() {
        warn("not-ready", format!("{} isn't deployed yet", device.serial));
    }
    if !device.site.is_empty() && device.site != pupil.site {
        warn(
            "other-site",
            format!(
                "{} belongs to {}, the pupil to {}",
                device.serial, device.site, pupil.site
            ),
        );
    } else if !device.class.is_empty()
        && !pupil.class.is_empty()
        && device.class.to_lowercase() != pupil.class.to_lowercase()
    {
        warn(
            "other-class",
            format!(
                "{} is meant for {}, the pupil is in {}",
                device.serial, device.class, pupil.class
            ),
        );
    }
    if pupil.left_at_ms != 0 {
        warn("left", "the pupil no longer stands in the list".into());
    }
    warnings
}

/// Ends an assignment.
async fn end(
    db: &mut Write,
    user: &User,
    assignment: &StoredAssignment,
    ended_by: &str,
    condition: &str,
) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE assignments SET returned_at_ms = $1, returned_by = $2, condition_note = $3, ended_by = $4 \
         WHERE id = $5",
    )
    .bind(now_ms())
    .bind(&user.name)
    .bind(clean(condition, NOTE_CHARS_MAX))
    .bind(ended_by)
    .bind(&assignment.id)
    .execute(&mut **db)
    .await
    .doing("end an assignment")?;
    audit(
        db,
        &user.name,
        "device-taken-back",
        &assignment.serial,
        &of(assignment),
    )
    .await?;
    tell(
        db,
        WebhookEvent::AssignmentEnded,
        &assignment.device,
        &assignment.pupil,
    )
    .await
}

/// Tells others who has a device now, or has it no more.
async fn tell(
    db: &mut Write,
    event: WebhookEvent,
    device: &str,
    pupil: &str,
) -> Result<(), Failure> {
    let device = stored_text("device id", device)?;
    let pupil = stored_text("pupil id", pupil)?;
    emit_assignment(db, event, device, pupil).await
}

/// Why a hand-out can't be undone at `now`, if so.
fn undo_refusal(assignment: &StoredAssignment, now: i64) -> Option<Failure> {
    let serial = &assignment.serial;
    if assignment.returned_at_ms != 0 {
        let message = format!("{serial} came back: that it was out stays in its history");
        return Some(
            Failure::conflict("returned", message)
                .hint("if it never came back, undo the return first"),
        );
    }
    is_history(assignment.handed_out_at_ms, now).then(|| {
        let message = format!("{serial} was handed out more than a day ago");
        Failure::conflict("too-late", message).hint("take it back instead")
    })
}

/// Why a return can't be undone at `now`, if so.
fn reopen_refusal(assignment: &StoredAssignment, now: i64) -> Option<Failure> {
    is_history(assignment.returned_at_ms, now).then(|| {
        let message = format!("{} came back more than a day ago", assignment.serial);
        Failure::conflict("too-late", message).hint("hand it out again instead")
    })
}

const fn is_history(at_ms: i64, now: i64) -> bool {
    at_ms < now - UNDONE_WITHIN_MS
}

async fn undo_hand_out(
    db: &mut Write,
    user: &User,
    assignment: &StoredAssignment,
) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE assignments SET undone = 1, returned_at_ms = $1, returned_by = $2 WHERE id = $3",
    )
    .bind(now_ms())
    .bind(&user.name)
    .bind(&assignment.id)
    .execute(&mut **db)
    .await
    .doing("undo an assignment")?;
    let ended: Vec<StoredAssignment> =
        sqlx::query_as(assignments_sql!("WHERE assignments.ended_by = $1"))
            .bind(&assignment.id)
            .fetch_all(&mut **db)
            .await
            .doing("read what an assignment ended")?;
    for before in ended {
        reopen_assignment(db, &before).await?;
    }
    audit(
        db,
        &user.name,
        "hand-out-undone",
        &assignment.serial,
        &of(assignment),
    )
    .await?;
    tell(
        db,
        WebhookEvent::AssignmentEnded,
        &assignment.device,
        &assignment.pupil,
    )
    .await
}

async fn reopen_assignment(db: &mut Write, assignment: &StoredAssignment) -> Result<(), Failure> {
    require_as_before(db, assignment).await?;
    sqlx::query(
        "UPDATE assignments SET returned_at_ms = 0, returned_by = '', condition_note = '', ended_by = '' WHERE id = $1",
    )
    .bind(&assignment.id)
    .execute(&mut **db)
    .await
    .doing("reopen an assignment")?;
    tell(
        db,
        WebhookEvent::AssignmentMade,
        &assignment.device,
        &assignment.pupil,
    )
    .await
}

/// The device and the pupil must be as they were when it came back: an additional device that the pupil had then is no
/// obstacle, one that they got since is.
async fn require_as_before(db: &mut Write, assignment: &StoredAssignment) -> Result<(), Failure> {
    let serial = &assignment.serial;
    let pupil: StoredPupil = sqlx::query_as(pupils_sql!("WHERE pupils.id = $1"))
        .bind(&assignment.pupil)
        .fetch_one(&mut **db)
        .await
        .doing("read a pupil")?;
    if pupil.erased_at_ms != 0 {
        let message = format!("everything personal of the pupil who had {serial} was erased since");
        return Err(Failure::conflict("erased", message).hint("take the device back instead"));
    }
    let open: Vec<StoredAssignment> = sqlx::query_as(assignments_sql!(
        "WHERE assignments.returned_at_ms = 0 AND (assignments.device = $1 \
         OR (assignments.pupil = $2 AND assignments.handed_out_at_ms >= $3)) ORDER BY assignments.handed_out_at_ms"
    ))
    .bind(&assignment.device)
    .bind(&assignment.pupil)
    .bind(assignment.returned_at_ms)
    .fetch_all(&mut **db)
    .await
    .doing("read who has a device")?;
    if open.iter().any(|row| row.device == assignment.device) {
        let message = format!("{serial} was handed out again since");
        return Err(Failure::conflict("handed-out-since", message).hint("undo that first"));
    }
    match open.first() {
        Some(other) if pupil.several == 0 => {
            let message = format!("the pupil who had {serial} got {} since", other.serial);
            Err(Failure::conflict("pupil-has-device", message).hint("undo that first"))
        }
        _ => Ok(()),
    }
}

fn of(assignment: &StoredAssignment) -> String {
    format!("of pupil {}", assignment.pupil)
}

fn was_undone() -> Failure {
    Failure::conflict("undone", "this hand-out was undone").hint("hand the device out again")
}

/// Taking back and undoing is for those who see the device.
fn require_device(user: &User, assignment: &StoredAssignment) -> Result<(), Failure> {
    if user.reach.covers(&assignment.site) {
        Ok(())
    } else {
        Err(Failure::not_found(format!("assignment {}", assignment.id)))
    }
}

async fn find_any(db: &mut Write, id: AssignmentId) -> Result<Option<StoredAssignment>, Failure> {
    sqlx::query_as(assignments_sql!("WHERE assignments.id = $1"))
        .bind(id.to_string())
        .fetch_optional(&mut **db)
        .await
        .doing("read an assignment")
}

async fn find(db: &mut Write, id: AssignmentId) -> Result<StoredAssignment, Failure> {
    find_any(db, id)
        .await?
        .ok_or_else(|| Failure::not_found(format!("assignment {id}")))
}

async fn row_of(db: &mut Write, user: &User, id: &str) -> Result<Option<AssignmentRow>, Failure> {
    let id: AssignmentId = stored_text("assignment id", id)?;
    find(db, id).await?.row_for(user)
}

async fn row(db: &mut Write, user: &User, id: AssignmentId) -> Result<AssignmentRow, Failure> {
    row_of(db, user, &id.to_string())
        .await?
        .ok_or_else(|| Failure::not_found(format!("assignment {id}")))
}

/// What of a device matters when it is handed out.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct StoredHandOutDevice {
    pub(super) id: String,
    pub(super) serial: String,
    pub(super) serial_key: String,
    pub(super) asset_tag: String,
    pub(super) asset_tag_key: String,
    pub(super) vendor: String,
    pub(super) product: String,
    pub(super) site: String,
    pub(super) site_name: String,
    /// Where it last checked in; empty if there is no such site.
    pub(super) seen_site: String,
    pub(super) class: String,
    pub(super) assigned_name: String,
    /// The state of its latest run; empty if it had none.
    pub(super) run_state: String,
}

impl Placed for StoredHandOutDevice {
    fn sites(&self) -> (&str, &str) {
        (&self.site, &self.seen_site)
    }
}

impl StoredHandOutDevice {
    /// Whether its last run is done.
    pub(super) fn is_ready(&self) -> bool {
        self.run_state == "completed"
    }
}

/// Devices with their site and the state of their latest run, and a clause.
macro_rules! hand_out_devices_sql {
    ($clause:literal) => {
        concat!(
            "SELECT devices.id, devices.serial, devices.serial_key, devices.asset_tag, devices.asset_tag_key, \
             devices.vendor, devices.product, devices.site, COALESCE(sites.name, devices.site) AS site_name, \
             devices.seen_site, devices.class, devices.assigned_name, COALESCE((SELECT runs.state FROM runs WHERE runs.device = devices.id \
             ORDER BY runs.started_at_ms DESC LIMIT 1), '') AS run_state \
             FROM devices LEFT JOIN sites ON sites.code = devices.site ",
            $clause
        )
    };
}
pub(super) use hand_out_devices_sql;

async fn device_for_in(
    db: &mut Write,
    user: &User,
    id: DeviceId,
) -> Result<StoredHandOutDevice, Failure> {
    let device: Option<StoredHandOutDevice> =
        sqlx::query_as(hand_out_devices_sql!("WHERE devices.id = $1"))
            .bind(id.to_string())
            .fetch_optional(&mut **db)
            .await
            .doing("read a device")?;
    let device = device
        .filter(|device| user.sees(device))
        .ok_or_else(|| Failure::not_found(format!("device {id}")))?;
    user.refuse_visitor(&device.serial, &device)?;
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::{StoredAssignment, UNDONE_WITHIN_MS, reopen_refusal, undo_refusal};
    use crate::error::Failure;

    const NOW: i64 = 1_790_000_000_000;
    const LATELY: i64 = NOW - UNDONE_WITHIN_MS;
    const LONG_AGO: i64 = LATELY - 1;

    /// Why a hand-out, and a return, of these times can't be undone; empty if it can.
    fn check(handed_out_at_ms: i64, returned_at_ms: i64) -> (String, String) {
        let assignment = StoredAssignment {
            handed_out_at_ms,
            returned_at_ms,
            ..StoredAssignment::default()
        };
        let code =
            |refusal: Option<Failure>| refusal.map_or_else(String::new, |no| no.api_error().1.code);
        (
            code(undo_refusal(&assignment, NOW)),
            code(reopen_refusal(&assignment, NOW)),
        )
    }

    #[test]
    fn what_is_older_than_a_day_is_history() {
        assert_eq!(check(LATELY, 0).0, "");
        assert_eq!(check(LONG_AGO, 0).0, "too-late");
        assert_eq!(check(LATELY, LATELY), ("returned".into(), String::new()));
        assert_eq!(check(LONG_AGO, LATELY), ("returned".into(), String::new()));
        assert_eq!(
            check(LONG_AGO, LONG_AGO),
            ("returned".into(), "too-late".into())
        );
    }
}
