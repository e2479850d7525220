//! Documents people write: strict, with line and column in every complaint.

use camino::Utf8Path;

use crate::error::MediaError;

pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    text: &str,
    path: &Utf8Path,
    what: &'static str,
) -> Result<T, MediaError> {
    serde_saphyr::from_str(text).map_err(|error| MediaError::Document {
        path: path.to_owned(),
        what,
        reason: error.to_string(),
    })
}
