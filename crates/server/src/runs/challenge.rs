//! Challenges: nothing is stored when one is given out, so that a whole fleet may ask at once.
//!
//! A challenge says itself until when it is good, and carries a seal that only this server (and any other with the same
//! keys) can make. What is stored is that one was answered, in the transaction of the answer.

use axum::Json;
use axum::extract::State;
use camino::Utf8Path;
use wire::device_api::Challenge;

use crate::db::Write;
use crate::error::{Doing as _, Failure};
use crate::limits::CHALLENGE_LIFE;
use crate::people::auth::millis;
use crate::secret;
use crate::state::{AppState, now_ms};

/// What the key of the seals is derived for; another use of the same secret gives another key.
const CONTEXT: &str = "forestage 2026 device challenges 1";
/// Until when it is good, and chance.
const BODY_BYTES: usize = 16;

/// Makes and recognises challenges.
pub(crate) struct Challenges {
    key: [u8; 32],
}

impl Challenges {
    /// Servers with the same keys recognise each other's challenges.
    pub(crate) fn open(folder: &Utf8Path) -> Result<Self, Failure> {
        secret::seed(&folder.join("challenge.key")).map(|seed| Self::new(&seed))
    }

    fn new(seed: &[u8; 32]) -> Self {
        Self {
            key: blake3::derive_key(CONTEXT, seed),
        }
    }

    fn make(&self, chance: &[u8; 32], expires_at_ms: i64) -> String {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&expires_at_ms.to_be_bytes());
        bytes[8..BODY_BYTES].copy_from_slice(&chance[..8]);
        let seal = blake3::keyed_hash(&self.key, &bytes[..BODY_BYTES]);
        bytes[BODY_BYTES..].copy_from_slice(&seal.as_bytes()[..BODY_BYTES]);
        secret::hex(&bytes)
    }

    /// Until when the challenge is good; `None` if it isn't, or isn't ours.
    pub(crate) fn good_until(&self, challenge: &str, now_ms: i64) -> Option<i64> {
        // Spelled otherwise it would be another text with the same seal, good once more.
        if challenge.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let bytes = secret::unhex::<32>(challenge)?;
        let (body, seal) = bytes.split_at(BODY_BYTES);
        let mut ours = *blake3::keyed_hash(&self.key, body).as_bytes();
        let mut theirs = ours;
        theirs[..BODY_BYTES].copy_from_slice(seal);
        ours[BODY_BYTES..].fill(0);
        theirs[BODY_BYTES..].fill(0);
        // Compared in constant time.
        if blake3::Hash::from_bytes(ours) != blake3::Hash::from_bytes(theirs) {
            return None;
        }
        let expires_at_ms = i64::from_be_bytes(body[..8].try_into().ok()?);
        (expires_at_ms > now_ms).then_some(expires_at_ms)
    }
}

/// `POST /device/v1/challenge`
pub(crate) async fn post(State(state): State<AppState>) -> Result<Json<Challenge>, Failure> {
    let chance = secret::random()?;
    let challenge = state
        .challenges()
        .make(&chance, now_ms() + millis(CHALLENGE_LIFE));
    Ok(Json(Challenge { challenge }))
}

/// Notes that a challenge was answered; false if it was before.
pub(crate) async fn use_up(
    db: &mut Write,
    challenge: &str,
    expires_at_ms: i64,
) -> Result<bool, Failure> {
    sqlx::query("DELETE FROM challenges WHERE expires_at_ms < $1")
        .bind(now_ms())
        .execute(&mut **db)
        .await
        .doing("forget old challenges")?;
    let noted = sqlx::query(
        "INSERT INTO challenges (challenge, expires_at_ms) VALUES ($1, $2) ON CONFLICT (challenge) DO NOTHING",
    )
    .bind(challenge)
    .bind(expires_at_ms)
    .execute(&mut **db)
    .await
    .doing("use up a challenge")?;
    Ok(noted.rows_affected() == 1)
}

#[cfg(test)]
mod tests {
    use super::Challenges;
    use proptest::prelude::*;

    fn challenges(key: u8) -> Challenges {
        Challenges::new(&[key; 32])
    }

    #[test]
    fn a_challenge_is_good_for_its_time_and_at_its_own_servers() {
        let challenge = challenges(1).make(&[7; 32], 1000);
        assert_eq!(challenge.len(), 64);
        assert_eq!(challenges(1).good_until(&challenge, 999), Some(1000));
        assert_eq!(challenges(1).good_until(&challenge, 1000), None);
        assert_eq!(challenges(2).good_until(&challenge, 999), None);
        assert_ne!(challenge, challenges(1).make(&[8; 32], 1000));
    }

    proptest! {
        #[test]
        fn no_other_text_is_good(index in 0_usize..64, digit in "[0-9a-fA-F]", text in ".{0,80}") {
            let challenge = challenges(1).make(&[7; 32], 1_000_000);
            let mut forged = challenge.clone();
            forged.replace_range(index..=index, &digit);
            if forged != challenge {
                prop_assert_eq!(challenges(1).good_until(&forged, 0), None);
            }
            prop_assert_eq!(challenges(1).good_until(&text, 0), None);
        }
    }
}
