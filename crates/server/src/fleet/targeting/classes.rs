//! Classes: groups of pupils at a site, and the software they need.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use sqlx::AnyConnection;
use wire::classes::{ClassChange, ClassRow, SOFTWARE_MAX};
use wire::names::PackageName;

use crate::db::commit;
use crate::error::{Doing as _, Failure, stored_text};
use crate::fleet::targeting::preview::number;
use crate::fleet::targeting::sites::site_code;
use crate::limits::{ASSET_TEXT_CHARS_MAX, JSON_BYTES_MAX, TITLE_CHARS_MAX};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::people::roles::Reach;
use crate::routes::read_json;
use crate::state::AppState;
use crate::text::clean;

/// By site and class: packages, in order.
pub(crate) type Software = BTreeMap<(String, String), Vec<PackageName>>;

/// Reads the software of all classes.
pub(crate) async fn software(db: &mut AnyConnection) -> Result<Software, Failure> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT site, class, package FROM class_software ORDER BY site, class, position",
    )
    .fetch_all(db)
    .await
    .doing("read the software of classes")?;
    let mut software = Software::new();
    for (site, class, package) in rows {
        let package = stored_text("package name", &package)?;
        software.entry((site, class)).or_default().push(package);
    }
    Ok(software)
}

/// `GET /api/v1/classes`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
) -> Result<Json<Vec<ClassRow>>, Failure> {
    state.class_rows(&user.reach).await.map(Json)
}

/// `PUT /api/v1/classes/{site}/{name}`
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path((site, name)): Path<(String, String)>,
    body: Body,
) -> Result<Json<ClassRow>, Failure> {
    let site = site_code(&site)?;
    let cleaned = clean(&name, ASSET_TEXT_CHARS_MAX);
    if cleaned.is_empty() || cleaned != name {
        return Err(Failure::bad_request(
            "bad-name",
            format!("{name:?} can't be the name of a class"),
        ));
    }
    let change: ClassChange = read_json(body, JSON_BYTES_MAX).await?;
    let unique: BTreeSet<&PackageName> = change.software.iter().collect();
    if change.software.len() > SOFTWARE_MAX || unique.len() < change.software.len() {
        let message = format!("a class has at most {SOFTWARE_MAX} packages, each once");
        return Err(Failure::bad_request("bad-software", message));
    }
    let mut db = state.db().write().await?;
    let known: Option<String> = sqlx::query_scalar("SELECT code FROM sites WHERE code = $1")
        .bind(&site)
        .fetch_optional(&mut *db)
        .await
        .doing("look up a site")?;
    if known.is_none() || !user.reach.covers(&site) {
        return Err(
            Failure::not_found(format!("site {site}")).hint("`forestage site set` makes it")
        );
    }
    sqlx::query(
        "INSERT INTO classes (site, name, school_year, title, teacher) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (site, name) DO UPDATE SET school_year = excluded.school_year, title = excluded.title, \
         teacher = excluded.teacher",
    )
    .bind(&site)
    .bind(&name)
    .bind(clean(&change.school_year, TITLE_CHARS_MAX))
    .bind(clean(&change.title, TITLE_CHARS_MAX))
    .bind(clean(&change.teacher, TITLE_CHARS_MAX))
    .execute(&mut *db)
    .await
    .doing("store a class")?;
    forget_software(&mut db, &site, &name).await?;
    for (position, package) in (0_i64..).zip(&change.software) {
        sqlx::query(
            "INSERT INTO class_software (site, class, package, position) VALUES ($1, $2, $3, $4)",
        )
        .bind(&site)
        .bind(&name)
        .bind(package.as_str())
        .bind(position)
        .execute(&mut *db)
        .await
        .doing("store the software of a class")?;
    }
    let words: Vec<&str> = change.software.iter().map(PackageName::as_str).collect();
    audit(
        &mut db,
        &user.name,
        "class-stored",
        &format!("{site} {name}"),
        &words.join(" "),
    )
    .await?;
    commit(db).await?;
    find(&state, &user.reach, &site, &name).await.map(Json)
}

/// `DELETE /api/v1/classes/{site}/{name}`: what is known of it; devices keep its name.
pub(crate) async fn remove(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path((site, name)): Path<(String, String)>,
) -> Result<Json<ClassRow>, Failure> {
    let row = find(&state, &user.reach, &site, &name).await?;
    let mut db = state.db().write().await?;
    forget_software(&mut db, &site, &name).await?;
    sqlx::query("DELETE FROM classes WHERE site = $1 AND name = $2")
        .bind(&site)
        .bind(&name)
        .execute(&mut *db)
        .await
        .doing("remove a class")?;
    audit(
        &mut db,
        &user.name,
        "class-removed",
        &format!("{site} {name}"),
        "",
    )
    .await?;
    commit(db).await?;
    Ok(Json(row))
}

async fn forget_software(db: &mut AnyConnection, site: &str, name: &str) -> Result<(), Failure> {
    sqlx::query("DELETE FROM class_software WHERE site = $1 AND class = $2")
        .bind(site)
        .bind(name)
        .execute(db)
        .await
        .doing("forget the software of a class")?;
    Ok(())
}

async fn find(
    state: &AppState,
    reach: &Reach,
    site: &str,
    name: &str,
) -> Result<ClassRow, Failure> {
    let rows = state.class_rows(reach).await?;
    rows.into_iter()
        .find(|row| row.site == site && row.name == name)
        .ok_or_else(|| Failure::not_found(format!("class {name} at {site}")))
}

impl AppState {
    /// Every class that someone made or an asset names, at the sites that `reach` covers.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn class_rows(&self, reach: &Reach) -> Result<Vec<ClassRow>, Failure> {
        let mut db = self.db().read().acquire().await.doing("read the classes")?;
        let made: Vec<(String, String, String, String, String)> =
            sqlx::query_as("SELECT site, name, school_year, title, teacher FROM classes")
                .fetch_all(&mut *db)
                .await
                .doing("read the classes")?;
        let named: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT site, class, COUNT(*) FROM devices WHERE class <> '' GROUP BY site, class",
        )
        .fetch_all(&mut *db)
        .await
        .doing("count the devices of classes")?;
        let mut software = software(&mut db).await?;
        let packages: Vec<String> = sqlx::query_scalar("SELECT name FROM package_current")
            .fetch_all(&mut *db)
            .await
            .doing("read the packages")?;
        drop(db);
        let packages: BTreeSet<String> = packages.into_iter().collect();
        let mut rows: BTreeMap<(String, String), ClassRow> = BTreeMap::new();
        for (site, name, devices) in named {
            let row = row_of(&mut rows, site, name);
            row.devices = number(usize::try_from(devices).unwrap_or(0));
        }
        for (site, name, school_year, title, teacher) in made {
            let software = software
                .remove(&(site.clone(), name.clone()))
                .unwrap_or_default();
            let row = row_of(&mut rows, site, name);
            row.is_made = true;
            let missing = software.iter().map(ToString::to_string);
            row.missing = missing.filter(|name| !packages.contains(name)).collect();
            row.class = ClassChange {
                school_year,
                title,
                teacher,
                software,
            };
        }
        let mut rows: Vec<ClassRow> = rows.into_values().collect();
        rows.retain(|row| reach.covers(&row.site));
        Ok(rows)
    }
}

fn row_of(
    rows: &mut BTreeMap<(String, String), ClassRow>,
    site: String,
    name: String,
) -> &mut ClassRow {
    rows.entry((site.clone(), name.clone()))
        .or_insert_with(|| ClassRow {
            site,
            name,
            ..ClassRow::default()
        })
}
