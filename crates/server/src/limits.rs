//! Limits: everything that comes in has one, with a name and a reason.

use std::time::Duration;

/// A JSON request of the admin API: the longest, a list of digests, has 20 000 of 67 bytes.
pub(crate) const JSON_BYTES_MAX: usize = 2 << 20;
/// A task sequence as text: a thousand steps with long scripts.
pub(crate) const SEQUENCE_BYTES_MAX: usize = 4 << 20;
/// A check-in: facts of a machine with dozens of disks stay below 64 KiB.
pub(crate) const CHECK_IN_BYTES_MAX: usize = 256 << 10;
/// A batch of events: 500 log lines of 2 KiB, and the plans of some steps.
pub(crate) const EVENT_BATCH_BYTES_MAX: usize = 8 << 20;
/// One event: `run-started` with a thousand steps is the longest.
pub(crate) const EVENT_BYTES_MAX: usize = 1 << 20;
/// Events of one run: a chatty installer logs some thousand lines. Beyond it, a device is broken or hostile.
pub(crate) const RUN_EVENTS_MAX: u64 = 200_000;
/// How often a run may begin anew.
pub(crate) const RUN_TAKES_MAX: i64 = 1000;
/// Frames in one upload: a large OS image, compressed.
pub(crate) const CHUNK_UPLOAD_BYTES_MAX: u64 = 32 << 30;
/// A manifest: the client reads no longer one either.
pub(crate) const MANIFEST_BYTES_MAX: usize = 256 << 20;
/// An asset file.
pub(crate) const ASSET_FILE_BYTES_MAX: usize = 32 << 20;
/// Receipts in one request: eight times the largest fleet.
pub(crate) const RECEIPT_FILES_MAX: usize = 20_000;
/// The same in bytes; one has about 1 KiB.
pub(crate) const RECEIPTS_BYTES_MAX: usize = 32 << 20;
/// Rows of a list that people send: forty times the largest fleet.
pub(crate) const ASSET_ROWS_MAX: usize = 100_000;
/// A text of an asset, in characters: SMBIOS texts that mean something are shorter.
pub(crate) const ASSET_TEXT_CHARS_MAX: usize = 128;
/// A title for people, in characters.
pub(crate) const TITLE_CHARS_MAX: usize = 200;
/// A text that a device says of itself, in characters.
pub(crate) const DEVICE_TEXT_CHARS_MAX: usize = wire::facts::TEXT_CHARS_MAX;
/// Why a device's key isn't in its TPM or an order was refused, in characters: a chain of causes is longer than a name.
pub(crate) const DEVICE_WHY_CHARS_MAX: usize = 400;
/// Disks and network interfaces a device may list.
pub(crate) const DEVICE_ITEMS_MAX: usize = 64;
/// Candidates that one check-in is compared with.
pub(crate) const CANDIDATES_MAX: i64 = 50;
/// Unrecognised machines that are remembered; the one not seen for longest makes room.
pub(crate) const STRANGERS_MAX: i64 = 1000;
/// How long a challenge waits.
pub(crate) const CHALLENGE_LIFE: Duration = Duration::from_secs(120);
/// How long a device's session lasts; longer than any run, shorter than a day.
pub(crate) const DEVICE_SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);
/// A request for a secret: a signature and three names.
pub(crate) const SECRET_REQUEST_BYTES_MAX: usize = 4 << 10;
/// A secret that an administrator sets; every byte may be written as six, `\u00e6`.
pub(crate) const SECRET_CHANGE_BYTES_MAX: usize = 512 << 10;
/// How long a secret that was released is given out again to the same key in another session; in its own it always is.
pub(crate) const SECRETS_OPEN_FOR: Duration = Duration::from_secs(600);
/// How often one run is given the same secret: it began anew after two power cuts, or in the boot image and in the OS.
pub(crate) const SECRET_RELEASES_MAX: usize = 3;
/// How long someone stays signed in to the pages: a working day.
pub(crate) const WEB_SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);
/// How often the use of a token is noted: a program that asks ten times a second writes once a minute.
pub(crate) const TOKEN_USE_NOTED_EVERY: Duration = Duration::from_secs(60);
/// A run that says nothing for so long is shown as stalled.
pub(crate) const STALLED_AFTER: Duration = Duration::from_secs(300);
/// When an unrecognised machine asks again.
pub(crate) const QUARANTINE_RETRY_SECONDS: u64 = 30;
/// When a machine asks again that waits for a person: to sign a warrant, or to set a secret.
pub(crate) const PERSON_RETRY_SECONDS: u64 = 60;
/// How long a password may be: argon2 takes any length, a person does not.
pub(crate) const PASSWORD_BYTES_MAX: usize = 512;
/// How short a password may be, in characters.
pub(crate) const PASSWORD_CHARS_MIN: usize = 10;
/// Wrong logins that one user name (or everyone together) may have within [`LOGIN_WINDOW`].
pub(crate) const LOGIN_FAILURES_MAX: usize = 10;
/// User names whose failures are remembered.
pub(crate) const LOGIN_NAMES_MAX: usize = 1000;
/// How far back wrong logins count.
pub(crate) const LOGIN_WINDOW: Duration = Duration::from_secs(300);
/// Passwords that are being checked at the same time: each takes 19 MiB.
pub(crate) const LOGINS_AT_ONCE: usize = 4;
/// How long a request's head may take; slower senders hold connections, not work.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
pub(crate) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(15);
/// Connections at once: a fleet of 2500 with two each, and room.
pub(crate) const CONNECTIONS_MAX: usize = 8192;
/// How long open requests may go on after a stop signal.
pub(crate) const STOP_TIME_MAX: Duration = Duration::from_secs(10);
/// Rows of the audit, of runs or of receipts in one reply.
pub(crate) const LIST_ROWS_MAX: i64 = 5000;
/// Views of runs kept in memory; ended ones make room.
pub(crate) const VIEWS_MAX: usize = 5000;
/// Changes a slow listener may fall behind.
pub(crate) const CHANGES_MAX: usize = 4096;
/// How long changes are gathered before they are sent.
pub(crate) const CHANGES_GATHERED_FOR: Duration = Duration::from_millis(200);
/// Free disk space below which the server calls itself not ready: a day of a large fleet's events.
pub(crate) const READY_BYTES_MIN: u64 = 1 << 30;
/// How often a run that only reports progress is noted as seen on disk.
pub(crate) const SEEN_NOTED_EVERY_MS: i64 = 15_000;
/// Serial numbers in one request for plans: four times the largest fleet.
pub(crate) const PLANNED_SERIALS_MAX: usize = 10_000;
/// Devices whose plans are made at once without waiting for others: a second of work at most.
pub(crate) const PLANNED_ALONE_MAX: usize = 20;
/// Lines of output shown of a failed step, and how long each may be.
pub(crate) const LAST_LINES_MAX: usize = 20;
pub(crate) const LAST_LINE_CHARS_MAX: usize = 2048;
