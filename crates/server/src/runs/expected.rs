//! How long a run is expected to take, by the one rule: what its deployment says, else what the site says where the
//! machine is, else what earlier runs of the sequence took, else nobody knows.

use sqlx::AnyConnection;
use wire::admin_api::ExpectedFrom;

use crate::error::{Doing as _, Failure};

/// The middle of fewer runs is chance.
pub(crate) const USUAL_RUNS_MIN: usize = 5;

/// What a run is measured by, and who says so; 0 if nobody does.
pub(crate) fn expected(deployment: u64, site: u64, usual: Option<u64>) -> (u64, ExpectedFrom) {
    match (deployment, site, usual) {
        (0, 0, None | Some(0)) => (0, ExpectedFrom::Nobody),
        (0, 0, Some(usual)) => (usual, ExpectedFrom::EarlierRuns),
        (0, site, _) => (site, ExpectedFrom::Site),
        (deployment, ..) => (deployment, ExpectedFrom::Deployment),
    }
}

/// What a site says; 0 if nothing.
pub(crate) async fn of_site(db: &mut AnyConnection, site: &str) -> Result<u64, Failure> {
    let seconds: Option<i64> =
        sqlx::query_scalar("SELECT expected_seconds FROM sites WHERE code = $1")
            .bind(site)
            .fetch_optional(db)
            .await
            .doing("read how long runs take at a site")?;
    Ok(seconds.map_or(0, as_seconds))
}

/// A stored duration.
pub(crate) fn as_seconds(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deployment_comes_before_the_site_and_the_site_before_earlier_runs() {
        for (deployment, site, usual, told) in [
            (900, 1200, Some(700), (900, ExpectedFrom::Deployment)),
            (0, 1200, Some(700), (1200, ExpectedFrom::Site)),
            (0, 0, Some(700), (700, ExpectedFrom::EarlierRuns)),
            (0, 0, Some(0), (0, ExpectedFrom::Nobody)),
            (0, 0, None, (0, ExpectedFrom::Nobody)),
            (900, 0, None, (900, ExpectedFrom::Deployment)),
        ] {
            assert_eq!(expected(deployment, site, usual), told);
        }
    }
}
