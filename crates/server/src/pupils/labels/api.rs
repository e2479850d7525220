//! Labels over HTTP.

use std::collections::BTreeSet;

use axum::extract::{Extension, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;

use super::layout::Label;
use super::paper::{PAPERS, Paper};
use super::{pdf, picture};
use crate::error::{Doing as _, Failure};
use crate::fleet::identity::name_key;
use crate::fleet::targeting::membership::require_members;
use crate::people::auth::User;
use crate::pupils::hand_out::{StoredHandOutDevice, hand_out_devices_sql};
use crate::pupils::store::reading_order;
use crate::routes::parse;
use crate::state::{AppState, blocking};

/// Labels in one document: the largest fleet, as a sheet of its own.
const LABELS_MAX: usize = 5000;

/// Which labels, on which paper. Devices are those that all the conditions name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Wanted {
    /// The paper: `a4-3x8`, `a4-3x7`, `a4-5x13`, `roll-62x29`.
    paper: String,
    /// Places of the first sheet that are used already.
    skip: usize,
    /// The collection whose direct members are meant.
    collection: String,
    /// The site's code.
    site: String,
    /// The class.
    class: String,
    /// Site and class in one, as a page's choice has them: `BJO|8B`.
    of: String,
    /// Serial numbers or asset tags, with commas between.
    devices: String,
}

/// `GET /api/v1/labels.pdf`
pub(crate) async fn sheet(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(wanted): Query<Wanted>,
) -> Result<impl IntoResponse, Failure> {
    let paper = wanted.paper()?;
    if wanted.skip >= paper.places() {
        return Err(Failure::bad_request(
            "bad-skip",
            format!("a sheet has {} places", paper.places()),
        ));
    }
    let labels = labels(&state, &user, &wanted).await?;
    let bytes = blocking(move || pdf::document(&labels, paper, wanted.skip)).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/pdf"),
        (
            header::CONTENT_DISPOSITION,
            "inline; filename=\"labels.pdf\"",
        ),
    ];
    Ok((headers, bytes))
}

/// `GET /api/v1/labels.png`: of one device.
pub(crate) async fn one(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(wanted): Query<Wanted>,
) -> Result<impl IntoResponse, Failure> {
    let paper = wanted.paper()?;
    let labels = labels(&state, &user, &wanted).await?;
    let [label] = <[Label; 1]>::try_from(labels).map_err(|labels| {
        let message = format!("a picture is of one device, not of {}", labels.len());
        Failure::bad_request("not-one", message).hint("ask for a PDF")
    })?;
    let bytes = blocking(move || picture::png(&label, paper.label)).await?;
    Ok(([(header::CONTENT_TYPE, "image/png")], bytes))
}

impl Wanted {
    fn paper(&self) -> Result<&'static Paper, Failure> {
        if self.paper.is_empty() {
            return Ok(&PAPERS[0]);
        }
        Paper::named(&self.paper).ok_or_else(|| {
            let names: Vec<_> = PAPERS.iter().map(|paper| paper.name).collect();
            Failure::bad_request("bad-paper", format!("there is no paper {}", self.paper))
                .hint(format!("known are: {}", names.join(", ")))
        })
    }
}

/// The labels, by site, class and serial number.
async fn labels(state: &AppState, user: &User, wanted: &Wanted) -> Result<Vec<Label>, Failure> {
    let (site, class) = match wanted.of.split_once('|') {
        Some(both) => both,
        None => (wanted.site.as_str(), wanted.class.as_str()),
    };
    let mut devices: Vec<StoredHandOutDevice> =
        sqlx::query_as(hand_out_devices_sql!("ORDER BY devices.serial_key"))
            .fetch_all(state.db().read())
            .await
            .doing("read the devices")?;
    let members: Option<BTreeSet<String>> = if wanted.collection.is_empty() {
        None
    } else {
        let mut db = state
            .db()
            .read()
            .acquire()
            .await
            .doing("read a collection")?;
        Some(require_members(&mut db, &parse(&wanted.collection)?).await?)
    };
    let keys: BTreeSet<String> = wanted.devices.split(',').filter_map(name_key).collect();
    let is_all =
        wanted.collection.is_empty() && site.is_empty() && class.is_empty() && keys.is_empty();
    devices.retain(|device| {
        !is_all
            && user.reach.covers(&device.site)
            && members
                .as_ref()
                .is_none_or(|members| members.contains(&device.id))
            && (site.is_empty() || site == device.site)
            && (class.is_empty() || class.to_lowercase() == device.class.to_lowercase())
            && (keys.is_empty()
                || keys.contains(&device.serial_key)
                || keys.contains(&device.asset_tag_key))
    });
    if devices.is_empty() {
        return Err(Failure::not_found("device that all of this says")
            .hint("name a collection, a site, a class or devices"));
    }
    if devices.len() > LABELS_MAX {
        return Err(Failure::bad_request(
            "too-many-labels",
            format!("at most {LABELS_MAX} labels go in one document"),
        ));
    }
    devices.sort_by_cached_key(|device| {
        (
            device.site.clone(),
            reading_order(&device.class),
            device.serial_key.clone(),
        )
    });
    let owner_line = state.hand_out_settings().await?.owner_line;
    Ok(devices
        .into_iter()
        .map(|device| Label {
            serial: device.serial,
            asset_tag: device.asset_tag,
            name: device.assigned_name,
            owner_line: owner_line.clone(),
        })
        .collect())
}
