//! What the server says to people about their data, sentence by sentence: why a row is refused, a machine held back, a
//! deployment not begun. Part of the admin API.
//!
//! Each sentence has a code that stays, an English text that may get better, and what it is about. The text is also the
//! key under which the pages find it in another language.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A sentence with places for what it is about.
pub trait Saying {
    /// In English; `{serial}` stands for a value of that name.
    fn english(&self) -> &'static str;

    /// What stands in the places.
    fn values(&self) -> Vec<(&'static str, &dyn Display)>;
}

/// The text with each `{name}` replaced by its value. Values are put in once and are never read as templates.
#[must_use]
pub fn fill(text: &str, values: &[(&str, &dyn Display)]) -> String {
    let mut rest = text;
    let mut text = String::with_capacity(rest.len() + 16);
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            text.push('{');
            rest = after;
            continue;
        };
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => text.push_str(&value.to_string()),
            None => text.extend(["{", name, "}"]),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// Several sentences in English.
pub fn texts<S: Display>(sayings: &[S]) -> Vec<String> {
    sayings.iter().map(S::to_string).collect()
}

/// Declares enums of sentences: `Code { value: Type } = "text with {value}"`.
macro_rules! sayings {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $variant:ident $({ $($field:ident: $type:ty),* })? = $english:literal, )*
        }
    )*) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
            #[serde(tag = "code", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
            pub enum $name {
                $(
                    #[doc = concat!("`", $english, "`")]
                    $variant $({ $(
                        #[doc = concat!("Stands in the place `", stringify!($field), "`.")]
                        $field: $type
                    ),* })?,
                )*
                /// A text that was stored before sentences had codes, or that a person wrote.
                Text {
                    /// The text.
                    text: String,
                },
            }

            impl $name {
                /// The name of every sentence as it stands here, and its English text.
                pub const ALL: &'static [(&'static str, &'static str)] =
                    &[$( (stringify!($variant), $english), )*];
            }

            impl Saying for $name {
                fn english(&self) -> &'static str {
                    match self {
                        $( Self::$variant $({ $($field: _),* })? => $english, )*
                        Self::Text { .. } => "{text}",
                    }
                }

                fn values(&self) -> Vec<(&'static str, &dyn Display)> {
                    match self {
                        $( Self::$variant $({ $($field),* })? => vec![
                            $( $( (stringify!($field), $field as &dyn Display) ),* )?
                        ], )*
                        Self::Text { text } => vec![("text", text)],
                    }
                }
            }

            impl Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str(&fill(self.english(), &self.values()))
                }
            }

            impl From<String> for $name {
                fn from(text: String) -> Self {
                    Self::Text { text }
                }
            }
        )*

        /// The English text of every sentence but those that people wrote.
        pub const ENGLISH: &[&str] = &[$( $( $english, )* )*];
    };
}

sayings! {
    /// What is wrong with a row of an asset file, or was passed over in it.
    pub enum RowReason {
        TooManyValues { values: u64, columns: u64 } = "it has {values} values, and there are {columns} columns",
        TooLong { field: String, characters: u64 } = "{field} is longer than {characters} characters",
        LostDigits { field: String, text: String } = "{field} {text} has lost digits to a spreadsheet; make the column a text column and fill it in again",
        PlaceholderUuid { uuid: String } = "the UUID {uuid} is a placeholder that many machines share; ignored",
        NoUuid { text: String } = "\"{text}\" is not a UUID",
        NoSerial = "there is no serial number",
        PlaceholderSerial { serial: String } = "the serial number \"{serial}\" is a placeholder, not a serial number",
        Totals = "a line of totals, not a machine",
        OtherSite { serial: String } = "{serial} is not at your own site",
        SerialRepeated { serial: String, line: u64 } = "the serial number {serial} stands in line {line} already",
        UuidRepeated { uuid: String, line: u64 } = "the UUID {uuid} stands in line {line} already",
        UuidTaken { uuid: String, owner: String } = "the UUID {uuid} belongs to {owner} in the fleet",
        TagRepeated { tag: String, line: u64 } = "the asset tag {tag} stands in line {line} already",
        TagTaken { tag: String, owner: String } = "the asset tag {tag} belongs to {owner} in the fleet",
    }

    /// Why nothing can be imported from a file, whatever its rows say.
    pub enum FileReason {
        TwoColumns { field: String, first: String, second: String } = "two columns are taken for {field}: \"{first}\" and \"{second}\"",
        NoSerialColumn { titles: String } = "no column is called `serial` (or `serienummer`); the titles are: {titles}",
        TooManyFields { columns: u64, allowed: u64 } = "{columns} columns are free fields, and {allowed} are allowed; ignore some",
        NoRows { line: u64 } = "there is no row below the titles in line {line}",
    }

    /// Why a row of an import stays when the import is taken back.
    pub enum KeptReason {
        Gone = "the machine is gone already",
        OtherSite = "it is not at your own site",
        CheckedIn = "the machine has checked in; it is never deleted",
        InUse = "the machine has runs or was handed out; it is never deleted",
        ChangedSince { now: String } = "changed since; now: {now}",
    }

    /// Why a machine is in a collection or isn't, and why a deployment to the collection leaves it alone.
    pub enum MemberReason {
        NoCollection = "there is no such collection",
        Direct = "put in by hand or by an import",
        NothingPutsIn = "nothing puts it in",
        RuleFits = "the rule fits",
        RuleDoesNotFit = "the rule doesn't fit",
        Undecided { error: String } = "the rule can't be decided: {error}",
        Retired = "it is retired",
        Stolen = "it is stolen",
        Limited { collection: String } = "it isn't in {collection}, which limits this collection",
        TakenOut { who: String } = "taken out by {who}",
        KeptOut { who: String } = "kept out by {who}",
        KeptOutBecause { reason: String, who: String } = "{reason} ({who})",
        DoneBy { deployment: String } = "done by deployment {deployment}",
        Cancelled = "cancelled for this device",
        DoneAlready = "done already",
        Stopped = "stopped on this device",
        Available = "available: someone must start it",
        NotOpenYet = "the window isn't open yet",
        Over = "the window is over",
        OutsideHours = "outside the daily hours",
        NotIn { collection: String } = "it isn't in collection {collection}",
        AnotherRun = "another run has not ended",
        CapReached { cap: u32 } = "the cap of {cap} devices is reached",
        SequenceGone = "its sequence is gone",
        NotCancelled = "it isn't cancelled for this device",
        AwaitsApproval = "another administrator must approve it first",
    }

    /// Why a prestage carries a package or leaves it out.
    pub enum CarryReason {
        StepAsks { step: String } = "step `{step}` asks for it",
        FactoryAsks = "the factory sequence asks for it",
        PrestageAsks = "the prestage asks for it",
        PrestageLeavesOut = "the prestage leaves it out",
        NeverRuns { step: String, condition: String } = "step `{step}` never runs on this model: `{condition}` is false",
        NoStepAsks = "no step asks for it",
        NoModelRule = "driver without a model rule",
        OtherModel { rules: String, model: String } = "driver for {rules}, not for {model}",
        DriverByVendor { model: String } = "driver for {model}, by its vendor",
        DriverByProduct { model: String } = "driver for {model}, by its product",
        DriverByBaseboard { model: String } = "driver for {model}, by its baseboard",
        DriverBySku { model: String } = "driver for {model}, by its SKU",
        FitsBetter { other: String, model: String } = "{other} fits {model} better",
        FitsEqually { model: String } = "another driver fits {model} equally well",
    }

    /// What a model lacks for a deployment.
    pub enum MissingReason {
        NoDrivers = "no driver package matches it",
        NoPrestage = "no prestage is defined for it",
        NeverBuilt { prestage: String } = "prestage {prestage} was never built",
    }

    /// What someone should look at before a deployment is made.
    pub enum WarningReason {
        NoMembers { collection: String } = "collection {collection} has no members yet",
        OverCap { reach: u64, cap: u32 } = "it would touch {reach} devices and its cap is {cap}: no device begins until the cap is raised",
        StaysIn = "devices stay in the collection when they are done: whatever is deployed to it next reaches them, too",
        OtherDuration { median: u64, expected: u64 } = "earlier runs took {median} s (median), and {expected} s are expected",
        NoPrestage { model: String, devices: u32 } = "no prestage is defined for {model} ({devices} devices): they fetch everything over the network",
        NoDrivers { model: String, devices: u32 } = "{model} ({devices} devices): no driver package matches it",
        NeverBuilt { model: String, devices: u32, prestage: String } = "{model} ({devices} devices): prestage {prestage} was never built",
        NeedWarrants { devices: u32 } = "{devices} devices were deployed before and have no warrant for this deployment: they wait until somebody signs one where the key is",
        NeedSecret { secret: String, devices: u32, sites: String } = "{devices} devices wait until the secret {secret} has a value for their site ({sites})",
    }

    /// What a machine waits for, or what should be known of it.
    pub enum MachineReason {
        NothingRequired = "nothing to do: it is in no collection with a required deployment",
        OutOfUse = "nothing to do: this machine is retired; an administrator can take it back into use",
        OutOfUseBecause { reason: String } = "nothing to do: this machine is retired ({reason}); an administrator can take it back into use",
        Cancelled { deployment: String } = "deployment {deployment} is cancelled for this device",
        DoneAlready { deployment: String } = "nothing to do: deployment {deployment} is done on this device",
        Stopped { deployment: String } = "deployment {deployment} was stopped on this device",
        Available { deployment: String } = "deployment {deployment} is available: an administrator can start it for this device",
        BeginsAt { deployment: String, when: String } = "deployment {deployment} begins {when}",
        Over { deployment: String } = "deployment {deployment} is over: no device begins it any more",
        BeginsBetween { deployment: String, hours: String } = "deployment {deployment} begins between {hours} only",
        CapReached { deployment: String, cap: u32 } = "deployment {deployment} has reached its cap of {cap} devices",
        OverCap { deployment: String, reach: u64, cap: u32 } = "deployment {deployment} would touch {reach} devices and its cap is {cap}: an administrator must raise it first",
        WaitsAtSite { live: u64, slots: u64, site: String, place: u64 } = "waiting for a place: {live} of {slots} at {site} are in use, this machine is number {place} in the queue",
        WaitsForDeployment { live: u64, slots: u64, deployment: String, place: u64 } = "waiting for a place: {live} of {slots} of deployment {deployment} are in use, this machine is number {place} in the queue",
        NeedsWarrant { deployment: String } = "deployment {deployment} would write over this machine's disk, and waits for a warrant: an administrator signs one where the key is",
        NeedsSecret { deployment: String, secret: String } = "deployment {deployment} needs the secret {secret}, which has no value for this machine's site: an administrator sets it",
        RefusedWithoutWarrant { deployment: String } = "the machine refused the order of deployment {deployment} and wrote nothing: its disk was deployed, and no warrant came with the order",
        RefusedUnknownKey { deployment: String } = "the machine refused the order of deployment {deployment} and wrote nothing: its boot image doesn't know the key that signed the warrant",
        RefusedBadWarrant { deployment: String } = "the machine refused the order of deployment {deployment} and wrote nothing: the warrant was altered or can't be read",
        RefusedOtherWarrant { deployment: String, why: String } = "the machine refused the order of deployment {deployment} and wrote nothing: the warrant is for something else ({why})",
        RefusedUnknownDisk { deployment: String, why: String } = "the machine refused the order of deployment {deployment} and wrote nothing: it can't tell whether its disk was deployed ({why})",
        RefusedBecause { deployment: String, why: String } = "the machine refused the order of deployment {deployment} and wrote nothing ({why})",
        NoSequence { deployment: String } = "deployment {deployment} has no sequence to run",
        SecondClaimant { model: String, key: String, macs: String, bound: String } = "refused: another machine ({model}, key {key}…, MAC {macs}) claims to be this device, which is bound to key {bound}…; reset the key if its disk was replaced or emptied",
        StolenSeen = "reported stolen, and heard of since",
        StolenSeenFrom { address: String } = "reported stolen, and heard of since, from {address}",
    }

    /// Why a machine that asked is in quarantine.
    pub enum AsideReason {
        NoNames = "the machine has neither a serial number nor a UUID that means anything",
        TwoAssets = "two or more imported assets fit this machine equally well",
        NoAsset { serial: String } = "no imported asset has serial number {serial} or this UUID",
        NoAssetByUuid = "no imported asset has this UUID, and the serial number is only a placeholder",
        MovedKey = "the disk's key belongs to another device; was the disk or the mainboard moved?",
        SecondClaimant = "its names are those of a device that another key is bound to",
        KeptOut = "an administrator keeps this machine out",
        KeptOutBecause { reason: String } = "an administrator keeps this machine out: {reason}",
    }

    /// What speaks for a machine's being an asset, or against it.
    pub enum Evidence {
        SerialSame { serial: String, points: u32 } = "serial number {serial} is the same (+{points})",
        SerialDiffers { machine: String, asset: String } = "serial number differs: the machine says {machine}, the asset {asset}",
        SerialPlaceholder = "serial number: the machine has only a placeholder",
        UuidSame { uuid: String, points: u32 } = "UUID {uuid} is the same (+{points})",
        UuidSwapped { uuid: String, points: u32 } = "UUID {uuid} is the same in the other byte order (+{points})",
        UuidShared { uuid: String } = "UUID {uuid} is the same, and several machines have it (+0)",
        UuidDiffers { machine: String, asset: String } = "UUID differs: the machine says {machine}, the asset {asset}",
        UuidPlaceholder = "UUID: the machine has only a placeholder",
        TagSame { tag: String, points: u32 } = "asset tag {tag} is the same (+{points})",
        TagDiffers { machine: String, asset: String } = "asset tag differs: the machine says {machine}, the asset {asset}",
        TagPlaceholder = "asset tag: the machine has only a placeholder",
        Mac { mac: String } = "MAC {mac} is the one the file names (a hint, +0)",
        OnlyPlaceholders = "only placeholders in the firmware",
        OfAsset { device: String } = "compared with device {device}:",
        KeyIsBound = "the device key is the one bound to it",
        KeyBoundNow = "the device key is bound to it now",
        FirstContact = "first contact: the device key is bound to it now",
        KeyOfOther { device: String } = "its key is bound to device {device}",
        OtherTpm = "the TPM isn't the one whose key the disk names: it was cleared or replaced, or the disk comes from another machine",
        TpmUnusable { why: String } = "the key isn't in the TPM: {why}",
        Decided { who: String } = "{who} decided that this machine is this device",
        DecidedNew { who: String } = "{who} decided that this machine is a new asset",
        DecidedKey { who: String } = "{who} decided that this machine is this device, with a new key",
        Started = "an administrator started it",
        DecidedBefore { who: String } = "{who} decided that this machine is this device; its names are the same as then",
    }

    /// Why a row of a list of pupils or of hand-outs is refused, or what is unusual about it.
    pub enum ListReason {
        MoreValues { values: u64, columns: u64 } = "the row has {values} values, and the file {columns} columns",
        LongValue { field: String, characters: u64 } = "{field} has more than {characters} characters",
        NoNumber = "there is no pupil",
        NoName = "there is no name",
        NoDevice = "there is no device",
        NoSite = "there is no site",
        NumberRepeated { number: String, line: u64 } = "pupil {number} stands in line {line} already",
        OtherPupil { number: String } = "pupil {number} belongs to another site",
        UnknownSite { site: String } = "there is no site {site}",
        UnknownDevice { device: String } = "there is no device {device}",
        VisitingDevice { device: String, site: String } = "{device} belongs to {site} and is a visitor at yours",
        SeveralDevices { device: String, devices: u64 } = "{devices} devices are called {device}",
        UnknownPupil { number: String } = "there is no pupil {number}",
        NotReady = "the machine isn't deployed yet",
        DeviceOfOtherSite = "the machine belongs to another site",
        DeviceOfOtherClass = "the machine is meant for another class",
        PupilLeft = "the pupil no longer stands in the list",
    }

    /// Why a machine can't be given a name.
    pub enum NameReason {
        TakenByOther = "another device has this name",
        SameAs { serial: String } = "{serial} gets the same name",
        StillCalledSo = "another device calls itself so, until it is deployed again",
        NumbersTaken { numbers: u64 } = "all numbers up to {numbers} are taken",
        CannotFill { error: String } = "the template can't be filled in: {error}",
        LongerThanWindows { characters: u64, allowed: u64 } = "it has {characters} characters, and Windows allows {allowed}",
        NoHostName = "it is no host name: letters, digits and hyphens, not digits alone",
    }

    /// Why a webhook is paused.
    pub enum PauseReason {
        PausedBy { who: String } = "paused by {who}",
        GoneForGood = "the receiver says that it is gone for good (410)",
        NotTaken { status: u16 } = "a message was tried as often as is sensible; its last answer was {status}",
        NotAnswered = "a message was tried as often as is sensible; no answer came",
    }

    /// Why no answer came from the receiver of a webhook.
    pub enum DeliveryReason {
        Address { why: String } = "the address can't be used: {why}",
        Certificates { error: String } = "the certificates can't be used: {error}",
        CannotConnect { host: String, error: String } = "cannot connect to {host}: {error}",
        Broken { error: String } = "the connection broke: {error}",
        Late { seconds: u64 } = "no answer within {seconds} s",
    }

    /// How a machine of an order differs from what the sticks say.
    pub enum ReconciledReason {
        NoStick = "no stick knows it",
        NoSerial = "the stick names no serial number",
        NotOrdered = "the stick says it; no order and no machine has this serial number",
        Failed = "the stick says that staging failed",
        FailedBecause { errors: String } = "the stick says that staging failed: {errors}",
        FailedAt { step: String } = "the stick says that staging failed at the step {step}",
        FailedAtBecause { step: String, errors: String } = "the stick says that staging failed at the step {step}: {errors}",
        WrongModel { ordered: String, met: String } = "ordered as {ordered}, the stick met {met}",
        NoBundle = "the stick doesn't say which bundle it was staged from",
        NeverBuilt { prestage: String } = "the stick says {prestage}, which was never built here",
        OtherRoot { prestage: String } = "the stick says {prestage}, and its signed root is another one than was built here",
        OtherModel { prestage: String, model: String, met: String } = "{prestage} is for {model}, the stick met {met}",
        OldVersion { prestage: String, wanted: String } = "the stick says {prestage}; {wanted} is wanted",
        StagedTwice { times: u64 } = "{times} receipts say that it was staged",
        StagedMachines { times: u64, machines: u64 } = "{times} receipts say that it was staged; {machines} machines have this serial number (their UUIDs differ)",
        StagedDisks { times: u64, disks: u64 } = "{times} receipts say that it was staged; on {disks} different disks",
    }
}

impl MachineReason {
    /// Whether the machine didn't take the order that it was given.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::RefusedWithoutWarrant { .. }
                | Self::RefusedUnknownKey { .. }
                | Self::RefusedBadWarrant { .. }
                | Self::RefusedOtherWarrant { .. }
                | Self::RefusedUnknownDisk { .. }
                | Self::RefusedBecause { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_has_a_code_and_an_english_text() {
        let reason = RowReason::SerialRepeated {
            serial: "{line}".into(),
            line: 7,
        };
        assert_eq!(
            reason.to_string(),
            "the serial number {line} stands in line 7 already"
        );
        let json = serde_json::json!({ "code": "serial-repeated", "serial": "{line}", "line": 7 });
        assert_eq!(serde_json::to_value(&reason).unwrap(), json);
        assert_eq!(serde_json::from_value::<RowReason>(json).unwrap(), reason);
        assert_eq!(
            RowReason::from("Hei {text}".to_owned()).to_string(),
            "Hei {text}"
        );
    }

    #[test]
    fn no_sentence_stands_twice_within_one_meaning() {
        for text in ENGLISH {
            assert!(!text.ends_with('.'), "{text}");
            let uses = ENGLISH.iter().filter(|other| *other == text).count();
            assert_eq!(uses, 1, "{text}");
        }
    }
}
