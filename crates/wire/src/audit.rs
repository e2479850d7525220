//! The audit's chain: each row's digest covers the row before. See `docs/formats/audit.md`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin_api::AuditRow;
use crate::digest::Digest;

/// What every digest of the chain begins with, so that no other digest can be taken for one.
const CONTEXT: &[u8] = b"forestage audit 1\n";

/// The end of the chain. Whoever has noted it elsewhere sees later whether rows before it were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AuditHead {
    /// The number of the newest row; 0 if there is none.
    pub number: u64,
    /// Its digest.
    pub digest: Digest,
}

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.digest)
    }
}

impl FromStr for AuditHead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "a head is a number, a colon and 64 hexadecimal digits".to_owned();
        let (number, digest) = text.trim().split_once(':').ok_or_else(bad)?;
        Ok(Self {
            number: number.parse().map_err(|_| bad())?,
            digest: digest.parse().map_err(|_| bad())?,
        })
    }
}

/// `GET /api/v1/audit/verify`: how far the chain is sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AuditVerified {
    /// The last of the rows that follow from one another, from the first on.
    pub head: AuditHead,
    /// Whether a head that was noted earlier was looked for, too.
    pub noted: bool,
    /// What is wrong, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<AuditBreak>,
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AuditBreak {
    /// The number of the row.
    pub row: u64,
    /// What is wrong with it, in words.
    pub why: String,
}

/// The end of a chain without rows.
#[must_use]
pub fn start() -> AuditHead {
    AuditHead {
        number: 0,
        digest: Digest::of(CONTEXT),
    }
}

/// The digest of a row that comes after the row with the digest `previous`.
#[must_use]
pub fn chained(previous: &Digest, row: &AuditRow) -> Digest {
    let mut bytes = CONTEXT.to_vec();
    let (number, at_ms) = (row.number.to_string(), row.at_ms.to_string());
    let previous = previous.to_string();
    let fields = [
        previous.as_str(),
        &number,
        &at_ms,
        &row.who,
        &row.action,
        &row.subject,
        &row.detail,
    ];
    let address = Some(row.address.as_str()).filter(|address| !address.is_empty());
    for field in fields.into_iter().chain(address) {
        // With its length before it, no field can pretend to be two.
        bytes.extend_from_slice(field.len().to_string().as_bytes());
        bytes.push(b':');
        bytes.extend_from_slice(field.as_bytes());
        bytes.push(b'\n');
    }
    Digest::of(&bytes)
}

/// What is wrong with a chain, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A row is missing, or rows stand in another order.
    #[error(
        "row {expected} should come here, but it is row {found}: a row was removed, or rows were reordered"
    )]
    Number {
        /// The number that should come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// A row isn't what it was when it was written.
    #[error("row {number} was changed, or a row before it was replaced: its digest doesn't fit")]
    Digest {
        /// The row.
        number: u64,
    },
    /// The row that was noted as the head has another digest now.
    #[error("row {number} isn't the one that was noted: the audit up to it was written anew")]
    NotNoted {
        /// The row.
        number: u64,
    },
    /// The chain ends before the row that was noted.
    #[error("the audit ends at row {end}, but row {noted} was noted: rows were cut off its end")]
    CutOff {
        /// The last row.
        end: u64,
        /// The row that was noted.
        noted: u64,
    },
}

impl Broken {
    /// The number of the row that isn't right.
    #[must_use]
    pub const fn row(&self) -> u64 {
        match self {
            Self::Number { expected, .. } => *expected,
            Self::Digest { number } | Self::NotNoted { number } => *number,
            Self::CutOff { noted, .. } => *noted,
        }
    }
}

/// Goes along a chain, row by row, oldest first.
#[derive(Debug, Clone)]
pub struct Verifier {
    head: AuditHead,
    noted: Option<AuditHead>,
}

impl Verifier {
    /// Begins before the first row; `noted` is a head that was seen earlier.
    #[must_use]
    pub fn new(noted: Option<AuditHead>) -> Self {
        Self {
            head: start(),
            noted,
        }
    }

    /// The last row that was right.
    #[must_use]
    pub const fn head(&self) -> AuditHead {
        self.head
    }

    /// Takes the next row.
    ///
    /// # Errors
    /// If it doesn't follow the one before.
    pub fn next(&mut self, row: &AuditRow) -> Result<(), Broken> {
        let expected = self.head.number + 1;
        if row.number != expected {
            return Err(Broken::Number {
                expected,
                found: row.number,
            });
        }
        let digest = chained(&self.head.digest, row);
        if row.digest != Some(digest) {
            return Err(Broken::Digest { number: row.number });
        }
        self.head = AuditHead {
            number: row.number,
            digest,
        };
        match self.noted {
            Some(noted) if noted.number == row.number && noted.digest != digest => {
                Err(Broken::NotNoted { number: row.number })
            }
            _ => Ok(()),
        }
    }

    /// The end, after the last row.
    ///
    /// # Errors
    /// If a noted head was never reached.
    pub fn finish(self) -> Result<AuditHead, Broken> {
        match self.noted {
            Some(noted) if noted.number > self.head.number => Err(Broken::CutOff {
                end: self.head.number,
                noted: noted.number,
            }),
            _ => Ok(self.head),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AuditHead, Broken, Verifier, chained, start};
    use crate::admin_api::AuditRow;

    fn chain(count: u64) -> Vec<AuditRow> {
        let mut head = start().digest;
        (1..=count)
            .map(|number| {
                let mut row = AuditRow {
                    number,
                    at_ms: 1_000 + i64::try_from(number).unwrap(),
                    who: "kari".into(),
                    action: "asset-imported".into(),
                    subject: format!("file {number}"),
                    detail: String::new(),
                    address: String::new(),
                    digest: None,
                };
                head = chained(&head, &row);
                row.digest = Some(head);
                row
            })
            .collect()
    }

    fn check(rows: &[AuditRow], noted: Option<AuditHead>) -> Result<AuditHead, Broken> {
        let mut verifier = Verifier::new(noted);
        rows.iter().try_for_each(|row| verifier.next(row))?;
        verifier.finish()
    }

    fn head(row: &AuditRow) -> AuditHead {
        AuditHead {
            number: row.number,
            digest: row.digest.unwrap(),
        }
    }

    #[test]
    fn what_nobody_touched_is_fine() {
        let rows = chain(5);
        assert_eq!(check(&rows, None), Ok(head(&rows[4])));
        assert_eq!(check(&rows, Some(head(&rows[2]))), Ok(head(&rows[4])));
        assert_eq!(check(&[], None), Ok(start()));
    }

    #[test]
    fn a_gap_a_change_and_a_reordering_are_named_by_their_row() {
        let rows = chain(5);
        let mut gap = rows.clone();
        gap.remove(2);
        let number = |expected, found| Err(Broken::Number { expected, found });
        assert_eq!(check(&gap, None), number(3, 4));
        let mut reordered = rows.clone();
        reordered.swap(1, 2);
        assert_eq!(check(&reordered, None), number(2, 3));
        // Numbers that were made to fit again show as well.
        for (at, row) in gap.iter_mut().enumerate() {
            row.number = at as u64 + 1;
        }
        assert_eq!(check(&gap, None), Err(Broken::Digest { number: 3 }));
        type Change = fn(&mut AuditRow);
        let changes: [Change; 5] = [
            |row| row.at_ms += 1,
            |row| row.who = "ola".into(),
            |row| row.action.push('!'),
            |row| row.subject.clear(),
            |row| row.detail.push(' '),
        ];
        for change in changes {
            let mut changed = rows.clone();
            change(&mut changed[3]);
            assert_eq!(check(&changed, None), Err(Broken::Digest { number: 4 }));
        }
    }

    #[test]
    fn a_noted_head_shows_a_rewritten_and_a_shortened_chain() {
        let rows = chain(5);
        let noted = Some(head(&rows[3]));
        assert_eq!(
            check(&rows[..2], noted),
            Err(Broken::CutOff { end: 2, noted: 4 })
        );
        let mut head = start().digest;
        let mut rewritten = rows;
        rewritten[0].who = "nobody".into();
        for row in &mut rewritten {
            head = chained(&head, row);
            row.digest = Some(head);
        }
        assert!(check(&rewritten, None).is_ok());
        assert_eq!(
            check(&rewritten, noted),
            Err(Broken::NotNoted { number: 4 })
        );
    }

    #[test]
    fn fields_can_not_be_moved_into_one_another() {
        let row = |subject: &str, detail: &str| AuditRow {
            subject: subject.into(),
            detail: detail.into(),
            ..chain(1)[0].clone()
        };
        let digest = |row: &AuditRow| chained(&start().digest, row);
        assert_ne!(digest(&row("ab", "c")), digest(&row("a", "bc")));
        assert_ne!(digest(&row("a\n1:b", "")), digest(&row("a", "b")));
    }

    #[test]
    fn an_address_is_covered_and_none_is_as_before() {
        let row = |detail: &str, address: &str| AuditRow {
            detail: detail.into(),
            address: address.into(),
            ..chain(1)[0].clone()
        };
        let digest = |row: &AuditRow| chained(&start().digest, row);
        let all = [
            row("", ""),
            row("", "192.0.2.7"),
            row("", "192.0.2.8"),
            row("192.0.2.7", ""),
            row("\n9:192.0.2.7", ""),
        ];
        let digests: std::collections::BTreeSet<_> = all.iter().map(digest).collect();
        assert_eq!(digests.len(), all.len());
    }

    #[test]
    fn a_head_is_read_as_it_is_written() {
        let digest = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        let check = |text: &str| text.parse::<AuditHead>().ok().map(|head| head.to_string());
        let good = format!("12:{digest}");
        assert_eq!(check(&format!(" {good}\n")), Some(good));
        for bad in ["", "12", digest, "x:y", "12:12", &format!("-1:{digest}")] {
            assert_eq!(check(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_digest_is_the_documented_one() {
        // As computed by hand from docs/formats/audit.md: a change here breaks every audit there is.
        assert_eq!(
            chain(1)[0].digest.unwrap().to_string(),
            blake3::hash(
                format!(
                    "forestage audit 1\n64:{}\n1:1\n4:1001\n4:kari\n14:asset-imported\n6:file 1\n0:\n",
                    blake3::hash(b"forestage audit 1\n")
                )
                .as_bytes()
            )
            .to_string()
        );
    }
}
