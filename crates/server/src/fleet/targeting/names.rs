//! Names for machines: from a template, valid, unique across the fleet, shown before they are stored.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use sequence::expression::template_names;
use sequence::scope::{Scope, Template, ascii, is_host_name};
use serde_json::json;
use sqlx::AnyConnection;
use wire::classes::{
    NAMED_MAX, NETBIOS_CHARS_MAX, NamePlan, NameRequest, NameRow, TEMPLATE_CHARS_MAX,
};
use wire::reasons::NameReason;

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored_text};
use crate::fleet::targeting::membership::require_members;
use crate::fleet::targeting::preview::number;
use crate::fleet::targeting::rules::{NAMES, Subject, subjects};
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::read_json;
use crate::state::{AppState, Change};

/// The function that counts at each site.
const NUMBER: &str = "number";
/// Numbers tried for one device: more than any site has machines.
const NUMBERS_MAX: u64 = 100_000;

/// `POST /api/v1/device-names`
pub(crate) async fn name(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<NamePlan>, Failure> {
    let request: NameRequest = read_json(body, JSON_BYTES_MAX).await?;
    if !request.apply {
        return preview(&state, &user, &request).await.map(Json);
    }
    let template = checked(&request.template)?;
    let mut db = state.db().write().await?;
    let mut plan = planned(&mut db, &user, &template, &request).await?;
    if plan.problems == 0 {
        store(&mut db, &plan).await?;
        let detail = format!("{} by {}", plan.named, template.0);
        let subject = request
            .collection
            .map(|name| name.to_string())
            .unwrap_or_default();
        audit(&mut db, &user.name, "devices-named", &subject, &detail).await?;
        commit(db).await?;
        plan.applied = true;
        for row in &plan.rows {
            state.changed(Change::Device(row.device));
        }
    }
    Ok(Json(plan))
}

/// The names that whoever is meant would get; nothing is stored.
pub(crate) async fn preview(
    state: &AppState,
    user: &User,
    request: &NameRequest,
) -> Result<NamePlan, Failure> {
    let template = checked(&request.template)?;
    let reading = state.db().read().acquire().await;
    let mut db = reading.doing("read who is named")?;
    planned(&mut db, user, &template, request).await
}

async fn planned(
    db: &mut AnyConnection,
    user: &User,
    template: &Template,
    request: &NameRequest,
) -> Result<NamePlan, Failure> {
    let mut wanted: BTreeSet<String> = request.devices.iter().map(ToString::to_string).collect();
    if let Some(collection) = &request.collection {
        wanted.extend(require_members(db, collection).await?);
    }
    if wanted.is_empty() || wanted.len() > NAMED_MAX {
        let message = format!("name a collection or devices: 1 to {NAMED_MAX} are named at once");
        return Err(Failure::bad_request("bad-devices", message));
    }
    let all = subjects(db, None).await?;
    let classes = class_titles(db).await?;
    let (chosen, others): (Vec<Subject>, Vec<Subject>) = all
        .into_iter()
        .partition(|subject| wanted.contains(&subject.device.id));
    if chosen.len() < wanted.len()
        || chosen
            .iter()
            .any(|one| !user.reach.covers(&one.device.site))
    {
        return Err(Failure::not_found("such device among them"));
    }
    let taken = others
        .iter()
        .map(|other| other.device.assigned_name.to_lowercase());
    let names = Names {
        assigned: taken.map(|name| (name, String::new())).collect(),
        told: host_names(db).await?,
    };
    plan(template, request, chosen, names, &classes)
}

/// Whether a machine may be given this name.
pub(crate) async fn check_one(db: &mut Write, device: &str, name: &str) -> Result<(), Failure> {
    if !is_host_name(name) || name.chars().count() > NETBIOS_CHARS_MAX {
        let message = format!("{name:?} can't be the name of a machine");
        return Err(Failure::bad_request("bad-host-name", message).hint(format!(
            "use letters, digits and hyphens, not digits alone, at most {NETBIOS_CHARS_MAX} characters"
        )));
    }
    let assigned: Option<String> = sqlx::query_scalar(
        "SELECT serial FROM devices WHERE LOWER(assigned_name) = $1 AND id <> $2 LIMIT 1",
    )
    .bind(name.to_lowercase())
    .bind(device)
    .fetch_optional(&mut **db)
    .await
    .doing("look for a name")?;
    let is_taken = assigned.is_some()
        || host_names(db)
            .await?
            .get(&name.to_lowercase())
            .is_some_and(|owner| owner != device);
    match is_taken {
        true => Err(Failure::conflict(
            "name-taken",
            format!("another machine is called {name}"),
        )),
        false => Ok(()),
    }
}

/// The names that the latest runs told, in small letters, and the machines that have them.
async fn host_names(db: &mut AnyConnection) -> Result<HashMap<String, String>, Failure> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT host_name, device FROM runs WHERE host_name NOT IN ('', '?') AND started_at_ms = \
         (SELECT MAX(newer.started_at_ms) FROM runs newer WHERE newer.device = runs.device)",
    )
    .fetch_all(db)
    .await
    .doing("read the names that runs told")?;
    Ok(rows
        .into_iter()
        .map(|(name, device)| (name.to_lowercase(), device))
        .collect())
}

fn checked(text: &str) -> Result<Template, Failure> {
    let bad = |why: String| Failure::bad_request("bad-template", why);
    if text.trim().is_empty() || text.chars().count() > TEMPLATE_CHARS_MAX {
        return Err(bad(format!(
            "a template has 1 to {TEMPLATE_CHARS_MAX} characters"
        )));
    }
    let names =
        template_names(text).map_err(|error| bad(format!("the template is wrong: {error}")))?;
    match names
        .iter()
        .find(|name| !NAMES.contains(&name.as_str()) && *name != NUMBER)
    {
        Some(name) => Err(bad(format!(
            "nothing is called `{name}`; known are {}, {NUMBER}(WIDTH)",
            NAMES.join(", ")
        ))),
        None => Ok(Template(text.trim().to_owned())),
    }
}

type Titles = HashMap<(String, String), (String, String)>;

async fn class_titles(db: &mut AnyConnection) -> Result<Titles, Failure> {
    let rows: Vec<(String, String, String, String)> =
        sqlx::query_as("SELECT site, name, title, school_year FROM classes")
            .fetch_all(db)
            .await
            .doing("read the classes")?;
    Ok(rows
        .into_iter()
        .map(|(site, name, title, year)| ((site, name), (title, year)))
        .collect())
}

/// Names that machines have, in small letters.
struct Names {
    /// What was assigned: to whom in this plan, or empty for another machine.
    assigned: HashMap<String, String>,
    /// What machines call themselves until they are deployed again, and their ids.
    told: HashMap<String, String>,
}

impl Names {
    /// Why this device can't have the name.
    fn clash(&self, name: &str, device: &str) -> Option<NameReason> {
        let name = name.to_lowercase();
        match self.assigned.get(&name).map(String::as_str) {
            Some("") => Some(NameReason::TakenByOther),
            Some(by) => Some(NameReason::SameAs { serial: by.into() }),
            None => match self.told.get(&name) {
                Some(owner) if owner != device => Some(NameReason::StillCalledSo),
                _ => None,
            },
        }
    }
}

/// Gives each chosen device a name that nobody else has.
fn plan(
    template: &Template,
    request: &NameRequest,
    chosen: Vec<Subject>,
    mut names: Names,
    classes: &Titles,
) -> Result<NamePlan, Failure> {
    let keeps = |one: &Subject| !request.rename && !one.device.assigned_name.is_empty();
    let kept = chosen.iter().filter(|one| keeps(one));
    names
        .assigned
        .extend(kept.map(|one| (one.device.assigned_name.to_lowercase(), String::new())));
    let counts = template_names(&template.0)
        .unwrap_or_default()
        .iter()
        .any(|name| name == NUMBER);
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    let mut plan = NamePlan::default();
    for mut subject in chosen {
        let mut row = NameRow {
            device: stored_text("device id", &subject.device.id)?,
            serial: subject.device.serial.clone(),
            site: subject.device.site.clone(),
            current: subject.device.assigned_name.clone(),
            name: subject.device.assigned_name.clone(),
            problem: None,
            said: None,
        };
        if keeps(&subject) {
            plan.kept += 1;
        } else {
            let class = &subject.device.class;
            let (title, year) = classes
                .get(&(row.site.clone(), class.clone()))
                .cloned()
                .unwrap_or_default();
            let class = json!({ "name": class, "title": title, "school_year": year });
            subject.scope.set("class", &class);
            let at_site = next.entry(row.site.clone()).or_insert(1);
            let counter = counts.then_some(at_site);
            match free_name(template, &mut subject, counter, &names, request.long_names) {
                Ok(name) => {
                    names
                        .assigned
                        .insert(name.to_lowercase(), row.serial.clone());
                    row.name = name;
                }
                Err((name, said)) => {
                    row.name = name;
                    row.problem = Some(said.to_string());
                    row.said = Some(said);
                }
            }
        }
        plan.rows.push(row);
    }
    plan.problems = number(plan.rows.iter().filter(|row| row.problem.is_some()).count());
    plan.named = number(plan.rows.len()) - plan.kept - plan.problems;
    Ok(plan)
}

/// The name for one device, or the name that it would have and what is wrong with it.
fn free_name(
    template: &Template,
    subject: &mut Subject,
    counter: Option<&mut u64>,
    names: &Names,
    is_long: bool,
) -> Result<String, (String, NameReason)> {
    let Some(next) = counter else {
        let name = valid_name(template, &subject.scope, is_long)?;
        return match names.clash(&name, &subject.device.id) {
            None => Ok(name),
            Some(clash) => Err((name, clash)),
        };
    };
    while *next <= NUMBERS_MAX {
        subject.scope.set_number(*next);
        let name = valid_name(template, &subject.scope, is_long)?;
        *next += 1;
        if names.clash(&name, &subject.device.id).is_none() {
            return Ok(name);
        }
    }
    let numbers = NUMBERS_MAX;
    Err((String::new(), NameReason::NumbersTaken { numbers }))
}

fn valid_name(
    template: &Template,
    scope: &Scope,
    is_long: bool,
) -> Result<String, (String, NameReason)> {
    let text = scope.render(template).map_err(|error| {
        let error = error.chain().into_iter().next_back().unwrap_or_default();
        (String::new(), NameReason::CannotFill { error })
    })?;
    let name = as_host_name(&text);
    let letters = name.chars().count();
    if !is_long && letters > NETBIOS_CHARS_MAX {
        let too_long = NameReason::LongerThanWindows {
            characters: letters as u64,
            allowed: NETBIOS_CHARS_MAX as u64,
        };
        return Err((name, too_long));
    }
    if !is_host_name(&name) {
        return Err((name, NameReason::NoHostName));
    }
    Ok(name)
}

/// Letter case stays; æøå and their like become ASCII, what separates words a hyphen; everything else goes.
fn as_host_name(text: &str) -> String {
    let mut name = String::new();
    for letter in ascii(text.trim()).chars() {
        match letter {
            letter if letter.is_ascii_alphanumeric() => name.push(letter),
            '-' | '_' | ' ' | '.' | '/' if !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    name.trim_matches('-').to_owned()
}

async fn store(db: &mut Write, plan: &NamePlan) -> Result<(), Failure> {
    for row in plan.rows.iter().filter(|row| row.name != row.current) {
        sqlx::query("UPDATE devices SET assigned_name = $1 WHERE id = $2")
            .bind(&row.name)
            .bind(row.device.to_string())
            .execute(&mut **db)
            .await
            .doing("name a device")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{as_host_name, checked};
    use proptest::prelude::*;
    use sequence::scope::is_host_name;

    #[test]
    fn names_are_written_in_ascii() {
        for (text, name) in [
            ("BJØ-1STA-ABC123", "BJO-1STA-ABC123"),
            (" Bjørnøya skole/8 B ", "Bjornoya-skole-8-B"),
            ("æøå_ÆØÅ", "aeoa-AeOA"),
            ("--x;rm -rf--", "xrm-rf"),
        ] {
            assert_eq!(as_host_name(text), name, "{text}");
        }
    }

    #[test]
    fn templates_say_what_they_use() {
        assert!(checked("{{ site.code }}-{{ number(3) }}").is_ok());
        for text in [
            "",
            "{{ sight.code }}",
            "{{ serial",
            "{% for x in y %}{% endfor %}",
        ] {
            assert!(checked(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_host_name_or_is_told_to_be_none(text in ".{0,80}") {
            let name = as_host_name(&text);
            prop_assert!(is_host_name(&name) || name.is_empty() || name.len() > 63
                || name.bytes().all(|byte| byte.is_ascii_digit()));
        }
    }
}
