//! Names and ids. Each is a type of its own, so that a serial can't be passed where a package name belongs.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that breaks the rule of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: {rule}")]
pub struct InvalidText {
    /// The type it was meant for.
    pub what: &'static str,
    /// The offending text.
    pub text: String,
    /// The rule it breaks, in plain words.
    pub rule: &'static str,
}

/// Names are typed on command lines and stand in file names; 63 fits every one of them.
const NAME_BYTES_MAX: usize = 63;
/// Debian's longest versions stay far below.
const VERSION_BYTES_MAX: usize = 128;
/// Eight groups of 63 letters; deeper nesting is a mistake.
const STEP_PATH_BYTES_MAX: usize = 512;

fn check_name(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > NAME_BYTES_MAX {
        return Err("1 to 63 characters");
    }
    if !bytes[0].is_ascii_lowercase() && !bytes[0].is_ascii_digit() {
        return Err("it starts with a small letter or a digit");
    }
    if bytes
        .iter()
        .any(|b| !(b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.+".contains(b)))
    {
        return Err("small letters, digits and - _ . + only");
    }
    Ok(())
}

fn check_version(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > VERSION_BYTES_MAX {
        return Err("1 to 128 characters");
    }
    if bytes
        .iter()
        .any(|b| !(b.is_ascii_alphanumeric() || b"-_.+:~".contains(b)))
    {
        return Err("letters, digits and - _ . + : ~ only");
    }
    Ok(())
}

fn check_step_path(text: &str) -> Result<(), &'static str> {
    if text.len() > STEP_PATH_BYTES_MAX {
        return Err("at most 512 characters");
    }
    for part in text.split('/') {
        check_name(part)?;
    }
    Ok(())
}

checked_text!(
    /// The name of a package, such as `openjdk-17-jre`.
    PackageName, check_name
);
checked_text!(
    /// The version of a package, such as `17.0.21.1+2-1~deb12u1`. Compared for equality only.
    PackageVersion, check_version
);
checked_text!(
    /// The name of a task sequence.
    SequenceName, check_name
);
checked_text!(
    /// The name of a prestage definition.
    PrestageName, check_name
);
checked_text!(
    /// The name of a collection.
    CollectionName, check_name
);
checked_text!(
    /// The name of a deployment.
    DeploymentName, check_name
);
checked_text!(
    /// The name of a secret, such as `wifi-school`. The secret itself never stands where its name does.
    SecretName, check_name
);
checked_text!(
    /// The name of a key that signs bundles.
    KeyName, check_name
);
checked_text!(
    /// Where a step stands: the ids of its groups and its own, joined by `/`, such as `apps/office`.
    StepPath, check_step_path
);

macro_rules! uuid_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh random id (RFC 9562, version 4).
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// A device as the server knows it: one row, whatever its names.
    DeviceId
);
uuid_id!(
    /// One execution of a sequence on one device.
    RunId
);
uuid_id!(
    /// A pupil. Random: it says nothing about the person, and outlives what is known of them.
    PupilId
);
uuid_id!(
    /// One device in one pupil's hands, from hand-out to return.
    AssignmentId
);
