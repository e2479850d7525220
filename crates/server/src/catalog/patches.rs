//! Patches from the last releases of a package to the current one: made in the background, so that nobody waits for them.
//!
//! A device that comes before its patch is made fetches chunks, as one that has none of those releases does.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use content::{Library, NoMeter};
use wire::admin_api::PackageRow;
use wire::device_api::{PatchList, PatchOffer};
use wire::digest::Digest;
use wire::names::PackageName;

use crate::error::{Failure, chain};
use crate::ranges;
use crate::routes::parse;
use crate::state::{AppState, blocking, stopped};

/// Patches are made from so many releases before the current one: an older one is on few devices, and each patch costs time.
const RELEASES: usize = 3;

/// A way from one manifest to another.
type Way = (Digest, Digest);

/// Makes patches until the server stops: at its start, and whenever a package was published.
pub(crate) async fn make(state: AppState) {
    loop {
        let work = async {
            if let Err(error) = round(&state).await {
                tracing::error!(error = %chain(&error), "cannot make patches; devices fetch whole chunks");
            }
            state.published().notified().await;
        };
        tokio::select! {
            () = stopped(state.stopping()) => return,
            () = work => {}
        }
    }
}

/// Makes the patches that aren't here, and removes those that lead to what is no longer current.
async fn round(state: &AppState) -> Result<(), Failure> {
    let wanted = wanted(&state.packages().await?);
    let library = state.library();
    let stopping = state.stopping();
    blocking(move || {
        let failed = |source| Failure::Content {
            what: "look after the patches".into(),
            source,
        };
        for patch in library.patches().map_err(failed)? {
            if !wanted.contains(&(patch.from, patch.to)) {
                library.remove_patch(&patch).map_err(failed)?;
            }
        }
        for (from, to) in wanted {
            if *stopping.borrow() {
                break;
            }
            // Others may well go.
            if let Err(error) = library.make_patch(&from, &to, &Until(&stopping)) {
                tracing::warn!(error = %chain(&error), "no patch from manifest {from} to {to}");
            }
        }
        Ok(())
    })
    .await
}

/// Work that ends when the server stops.
struct Until<'a>(&'a tokio::sync::watch::Receiver<bool>);

impl content::Meter for Until<'_> {
    fn report(&self, done: u64, total: u64) {
        NoMeter.report(done, total);
    }

    fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }
}

/// From the last releases of each package to the current one.
fn wanted(rows: &[PackageRow]) -> Vec<Way> {
    let mut by_name: BTreeMap<&PackageName, Vec<&PackageRow>> = BTreeMap::new();
    for row in rows {
        by_name.entry(&row.package.name).or_default().push(row);
    }
    let mut ways = Vec::new();
    for releases in by_name.into_values() {
        let Some(current) = releases.iter().find(|row| row.current) else {
            continue;
        };
        let to = current.package.manifest;
        let mut others: Vec<Digest> = Vec::new();
        for release in releases {
            let from = release.package.manifest;
            if from != to && !others.contains(&from) {
                others.push(from);
            }
        }
        ways.extend(others.into_iter().take(RELEASES).map(|from| (from, to)));
    }
    ways.sort_unstable();
    ways.dedup();
    ways
}

/// `GET /device/v1/content/manifests/{digest}/patches`
pub(crate) async fn list(
    State(state): State<AppState>,
    Path(digest): Path<String>,
) -> Result<Json<PatchList>, Failure> {
    let to: Digest = parse(&digest)?;
    let library = state.library();
    blocking(move || {
        let patches = offers(&library, &to)?;
        Ok(Json(PatchList { patches }))
    })
    .await
}

/// The patches that lead to a manifest, the shortest first.
pub(crate) fn offers(library: &Library, to: &Digest) -> Result<Vec<PatchOffer>, Failure> {
    let patches = library.patches().map_err(|source| Failure::Content {
        what: "list the patches".into(),
        source,
    })?;
    let mut offers: Vec<PatchOffer> = patches
        .iter()
        .filter(|patch| patch.to == *to)
        .map(|patch| PatchOffer {
            from: patch.from,
            bytes: patch.bytes,
            front_bytes: patch.front_bytes,
        })
        .collect();
    offers.sort_by_key(|offer| offer.bytes);
    Ok(offers)
}

/// `GET /device/v1/content/manifests/{digest}/patches/{from}`: the whole patch, or the range asked for.
pub(crate) async fn patch(
    State(state): State<AppState>,
    Path((digest, from)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (to, from): (Digest, Digest) = (parse(&digest)?, parse(&from)?);
    let library = state.library();
    let failed = move |source| Failure::Content {
        what: format!("read the patch from manifest {from} to {to}"),
        source,
    };
    let file = blocking(move || library.patch(&from, &to).map_err(failed)).await?;
    let Some(file) = file else {
        let what = format!("patch from manifest {from} to {to}");
        return Err(Failure::not_found(what).hint("fetch the manifest and its chunks"));
    };
    let answer = ranges::answer(tokio::fs::File::from_std(file), &headers).await;
    answer.map_err(|source| Failure::System {
        what: "read a patch",
        source: source.into(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wire::admin_api::PackageRow;
    use wire::digest::Digest;

    use super::wanted;

    /// Releases of one package, newest first, by what they hold; the one marked is current.
    fn check(releases: &[(&str, bool)]) -> Vec<String> {
        let row = |(version, (content, current)): (usize, &(&str, bool))| -> PackageRow {
            let package = json!({
                "name": "java", "version": format!("{version}"), "kind": "files", "title": "", "content-bytes": 1,
                "manifest": Digest::of(content.as_bytes()), "manifest-bytes": 1,
            });
            serde_json::from_value(
                json!({ "package": package, "published-at-ms": 1, "current": current }),
            )
            .unwrap()
        };
        let rows: Vec<PackageRow> = releases.iter().enumerate().map(row).collect();
        let name = |digest: Digest| {
            let names = releases.iter().map(|(content, _)| *content);
            let mut names = names.filter(|content| Digest::of(content.as_bytes()) == digest);
            names.next().unwrap()
        };
        let mut ways: Vec<String> = wanted(&rows)
            .into_iter()
            .map(|(from, to)| format!("{} {}", name(from), name(to)))
            .collect();
        ways.sort();
        ways
    }

    #[test]
    fn patches_lead_from_the_last_releases_to_the_current_one() {
        assert_eq!(check(&[("a", true)]), [""; 0]);
        assert_eq!(check(&[("b", true), ("a", false)]), ["a b"]);
        assert_eq!(check(&[("b", false), ("a", true)]), ["b a"]);
        let many = [
            ("e", true),
            ("d", false),
            ("d", false),
            ("c", false),
            ("b", false),
            ("a", false),
        ];
        assert_eq!(check(&many), ["b e", "c e", "d e"]);
        assert_eq!(check(&[("a", true), ("a", false)]), [""; 0]);
    }
}
