//! Classes: groups of pupils at a site, and the software they need.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use sqlx::AnyConnection;
use wire::classes::{Class, ClassChange, ClassRow, SOFTWARE_MAX};
use wire::names::PackageName;

use crate::db::{Write, commit};
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

/// `PUT /api/v1/classes/{site}/{name}`: what isn't said stays as it is.
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
    if let Some(software) = &change.software {
        let unique: BTreeSet<&PackageName> = software.iter().collect();
        if software.len() > SOFTWARE_MAX || unique.len() < software.len() {
            let message = format!("a class has at most {SOFTWARE_MAX} packages, each once");
            return Err(Failure::bad_request("bad-software", message));
        }
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
    store(&mut db, (&site, &name), &change).await?;
    audit(
        &mut db,
        &user.name,
        "class-stored",
        &format!("{site} {name}"),
        &in_words(&change),
    )
    .await?;
    commit(db).await?;
    state.class_row(&user.reach, &site, &name).await.map(Json)
}

async fn store(
    db: &mut Write,
    (site, name): (&str, &str),
    change: &ClassChange,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO classes (site, name, school_year, title, teacher) VALUES ($1, $2, '', '', '') \
         ON CONFLICT (site, name) DO NOTHING",
    )
    .bind(site)
    .bind(name)
    .execute(&mut **db)
    .await
    .doing("store a class")?;
    let texts = [
        (
            "UPDATE classes SET school_year = $1 WHERE site = $2 AND name = $3",
            &change.school_year,
        ),
        (
            "UPDATE classes SET title = $1 WHERE site = $2 AND name = $3",
            &change.title,
        ),
        (
            "UPDATE classes SET teacher = $1 WHERE site = $2 AND name = $3",
            &change.teacher,
        ),
    ];
    for (sql, text) in texts {
        if let Some(text) = text {
            sqlx::query(sql)
                .bind(clean(text, TITLE_CHARS_MAX))
                .bind(site)
                .bind(name)
                .execute(&mut **db)
                .await
                .doing("store a class")?;
        }
    }
    let Some(software) = &change.software else {
        return Ok(());
    };
    forget_software(db, site, name).await?;
    for (position, package) in (0_i64..).zip(software) {
        sqlx::query(
            "INSERT INTO class_software (site, class, package, position) VALUES ($1, $2, $3, $4)",
        )
        .bind(site)
        .bind(name)
        .bind(package.as_str())
        .bind(position)
        .execute(&mut **db)
        .await
        .doing("store the software of a class")?;
    }
    Ok(())
}

fn in_words(change: &ClassChange) -> String {
    let software = change.software.as_ref().map(|software| {
        let names: Vec<&str> = software.iter().map(PackageName::as_str).collect();
        format!("software {}", names.join(" "))
    });
    let parts = [
        change
            .school_year
            .as_ref()
            .map(|year| format!("school year {year}")),
        change.title.as_ref().map(|title| format!("title {title}")),
        // Who teaches it is a person; what the audit has to say is that it was changed.
        change.teacher.as_ref().map(|_| "teacher".to_owned()),
        software,
    ];
    clean(
        &parts.into_iter().flatten().collect::<Vec<_>>().join(", "),
        TITLE_CHARS_MAX,
    )
}

/// `DELETE /api/v1/classes/{site}/{name}`: what is known of it; devices keep its name.
pub(crate) async fn remove(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path((site, name)): Path<(String, String)>,
) -> Result<Json<ClassRow>, Failure> {
    let row = state.class_row(&user.reach, &site, &name).await?;
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

impl AppState {
    /// One class, or 404.
    pub(crate) async fn class_row(
        &self,
        reach: &Reach,
        site: &str,
        name: &str,
    ) -> Result<ClassRow, Failure> {
        let rows = self.class_rows(reach).await?;
        rows.into_iter()
            .find(|row| row.site == site && row.name == name)
            .ok_or_else(|| Failure::not_found(format!("class {name} at {site}")))
    }

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
            row.class = Class {
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
