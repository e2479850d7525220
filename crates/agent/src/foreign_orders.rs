//! A server that was taken over gives a deployed machine orders. The machine is made of files, so that every write is seen: without
//! a warrant that fits there is none.

use std::io::{self, Cursor};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use camino::Utf8PathBuf;
use client::{Client, ClientError};
use ed25519_dalek::{Signer, SigningKey};
use sequence::document::compile;
use sequence::engine::{Clock, RunEnd};
use sequence::ports::{BootTarget, Content, Machine};
use wire::boot_config::Trust;
use wire::bundle::SignatureText;
use wire::device_api::{
    Challenge, CheckIn, CheckInBody, CheckInReply, EventAck, RefusalReason, RefusedOrder,
};
use wire::event::Environment;
use wire::facts::Facts;
use wire::keys::{DevicePublicKey, PublicKey};
use wire::layout::VolumeRole;
use wire::mark::{MarkState, StagingMark};
use wire::names::{DeviceId, RunId};
use wire::order::Order;
use wire::package::Package;
use wire::warrant::{SignedWarrant, Warrant, signed_bytes};

use crate::block::BlockFile;
use crate::clock::MachineClock;
use crate::connection::Connection;
use crate::content_port::RunContent;
use crate::deploy::{self, NotRun, Site};
use crate::files::{Files, SystemFiles};
use crate::host::{Host, KeySource, State, Tpm};
use crate::machine::boot;
use crate::machine::linux::LinuxMachine;
use crate::machine::made_of_files::FileMachine;
use crate::resume;
use crate::screen::Phase;
use crate::secrets::Secrets;
use crate::test_bundle::{self, TestBundle};
use crate::view::Board;
use crate::warrant::NoWarrant;

/// What a server would do to a machine: first of all, give it a boot image that trusts whom the server likes.
const TAKE_OVER: &str = "sequence: take-over
steps:
  - id: boot
    install-boot-image: { image: boot-image }
  - id: finish
    finish: { action: stay, deployed: false }
";
/// Nothing but the end, which isn't the machine's being deployed. This one has no OS that could start.
const WITHOUT_TRACE: &str = "sequence: without-trace
steps:
  - id: finish
    finish: { action: stay, deployed: false }
";

/// A laptop that was deployed, and a server that says what it is told to.
struct Deployed {
    machine: FileMachine,
    answer: Arc<Mutex<Option<CheckInReply>>>,
    /// This warrant comes with the answer after so many without one.
    later: Arc<Mutex<Option<(u32, SignedWarrant)>>>,
    /// What was told at the last check-in of an order that wasn't taken.
    told: Arc<Mutex<Option<RefusedOrder>>>,
    packages: Vec<Package>,
    /// Waits that were asked for, in milliseconds.
    waited: AtomicU64,
}

impl Deployed {
    /// By `run`, as its mark says.
    fn by(run: Option<RunId>) -> Arc<Self> {
        let bundle = TestBundle::new(1);
        let machine = FileMachine::new();
        let medium = BlockFile::whole(file_of(&bundle.bytes)).expect("a medium");
        machine
            .stage(medium, &test_bundle::trust())
            .expect("a staged machine");
        let (serial, uuid) = FileMachine::identity();
        machine.mark(&StagingMark {
            run,
            ..StagingMark::new(serial, uuid, MarkState::Deployed)
        });
        Arc::new(Self {
            machine,
            answer: Arc::default(),
            later: Arc::default(),
            told: Arc::default(),
            packages: bundle.root.packages,
            waited: AtomicU64::new(0),
        })
    }

    /// What it is when it is switched on, with these wipe keys in its boot image.
    fn switched_on(self: &Arc<Self>, wipe_keys: &[&SigningKey]) -> Site {
        let trust = Trust {
            server_urls: vec!["https://forestage.example".into()],
            wipe_keys: wipe_keys.iter().map(|key| public(key)).collect(),
            ..test_bundle::trust()
        };
        let host = Arc::new(On(Arc::clone(self)));
        let site = Site::new(Arc::new(Board::new(None)), host, trust);
        // The key of the device lies on its disk from here on.
        site.connection.public_key().expect("a key");
        self.machine.age();
        site
    }

    fn order(&self, deployment: &str, sequence: &str) -> Order {
        Order {
            format: 1,
            run: RunId::random(),
            device: DeviceId::random(),
            deployment: deployment.parse().ok(),
            sequence: compile(sequence).expect("a sequence").sequence,
            variables: Default::default(),
            packages: self.packages.clone(),
            expected_seconds: 0,
        }
    }

    /// The server answers with this from now on.
    fn server_says(&self, order: &Order, warrant: Option<&SignedWarrant>) {
        *lock(&self.answer) = Some(CheckInReply::Run {
            device: order.device,
            session: "session".into(),
            order: order.clone(),
            go_on: true,
            stop: false,
            warrant: warrant.cloned().map(Box::new),
        });
    }

    /// The server answers with this, and the machine does what it does.
    fn gets(
        &self,
        site: &Site,
        order: &Order,
        warrant: Option<&SignedWarrant>,
    ) -> Result<RunEnd, NotRun> {
        self.server_says(order, warrant);
        let reply = site.connection.check_in().expect("an answer");
        let CheckInReply::Run { order, .. } = reply else {
            panic!("another answer: {reply:?}");
        };
        deploy::run_order(site, &order, Phase::Deploying).map(|(end, reporter)| {
            reporter.end();
            end
        })
    }

    fn mark(&self) -> StagingMark {
        let mark = self.machine.volumes().mark().expect("a disk");
        mark.expect("a mark")
    }
}

fn file_of(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().expect("a file");
    io::copy(&mut Cursor::new(bytes), &mut file).expect("a file");
    file
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::from_bytes(key.verifying_key().as_bytes())
}

fn signed(text: String, key: &SigningKey) -> SignedWarrant {
    let signature = key.sign(&signed_bytes(&text));
    SignedWarrant {
        text,
        key: public(key),
        signature: SignatureText::from_bytes(&signature.to_bytes()),
    }
}

/// One more answer is asked for.
fn come(later: &mut Option<(u32, SignedWarrant)>, answer: &mut Option<CheckInReply>) {
    match later {
        Some((0, signed)) => {
            if let Some(CheckInReply::Run { warrant, .. }) = answer {
                *warrant = Some(Box::new(signed.clone()));
            }
            *later = None;
        }
        Some((left, _)) => *left -= 1,
        None => {}
    }
}

/// The machine as the agent sees it.
struct On(Arc<Deployed>);

impl Clock for On {
    fn uptime_ms(&self) -> u64 {
        MachineClock.uptime_ms()
    }

    fn wait(&self, milliseconds: u64, until: &dyn Fn() -> bool) {
        self.0.waited.fetch_add(milliseconds, Ordering::Relaxed);
        MachineClock.wait(milliseconds.min(1), until);
    }
}

impl State for On {
    fn folder(&self) -> Option<Utf8PathBuf> {
        Some(self.0.machine.staging())
    }

    fn files(&self) -> &dyn Files {
        &SystemFiles
    }
}

impl KeySource for On {
    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(5);
        Ok(())
    }

    fn tpm(&self) -> io::Result<Option<Box<dyn Tpm>>> {
        Ok(None)
    }
}

impl Host for On {
    fn environment(&self) -> Environment {
        Environment::BootImage
    }

    fn facts(&self) -> Facts {
        self.0.machine.volumes().kernel.facts()
    }

    fn mark(&self) -> Result<Option<StagingMark>> {
        self.0.machine.volumes().mark()
    }

    fn let_in_without_warrant(&self, run: Option<RunId>) {
        self.0.machine.volumes().let_in_without_warrant(run);
    }

    fn mount_staging(&self) -> Result<Option<Utf8PathBuf>> {
        Ok(self.folder())
    }

    fn is_online(&self) -> bool {
        true
    }

    fn address(&self) -> String {
        String::new()
    }

    fn network_problem(&self) -> String {
        String::new()
    }

    fn interface_bytes(&self) -> u64 {
        0
    }

    fn client(&self, url: &str, _ca_pem: &str, _timeout: Duration) -> Result<Client, ClientError> {
        let answer = Arc::clone(&self.0.answer);
        let later = Arc::clone(&self.0.later);
        let told = Arc::clone(&self.0.told);
        Ok(Client::over(url, move |request| {
            let path = request.uri().path();
            let body = match path {
                "/device/v1/challenge" => serde_json::to_vec(&Challenge {
                    challenge: "ab".repeat(32),
                }),
                "/device/v1/check-in" => {
                    let check_in: CheckIn = serde_json::from_slice(request.body())?;
                    let body: CheckInBody = serde_json::from_str(&check_in.body)?;
                    *lock(&told) = body.refused;
                    let mut answer = lock(&answer);
                    come(&mut lock(&later), &mut answer);
                    serde_json::to_vec(&*answer)
                }
                _ if path.ends_with("/events") => serde_json::to_vec(&EventAck {
                    acknowledged: 1000,
                    stop: false,
                }),
                _ => return Err(io::ErrorKind::ConnectionRefused.into()),
            };
            let body = body?;
            let answer = http::Response::builder().header("content-length", body.len());
            answer.body(body).map_err(io::Error::other)
        }))
    }

    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(work).map(drop)
    }

    fn machine(&self, secrets: Secrets) -> Box<dyn Machine> {
        let volumes = Arc::clone(self.0.machine.volumes());
        Box::new(LinuxMachine::new(volumes).with_secrets(secrets))
    }

    fn content(&self, packages: Vec<Package>, connection: &Arc<Connection>) -> Box<dyn Content> {
        let volumes = Arc::clone(self.0.machine.volumes());
        Box::new(RunContent::on_site(
            packages,
            volumes,
            Arc::clone(connection),
        ))
    }

    fn set_default_boot(&self, target: BootTarget) -> Result<()> {
        let volumes = self.0.machine.volumes();
        match target {
            BootTarget::BootImage => boot::set_default(volumes, false),
            // It has none; as if it had.
            BootTarget::Os => volumes.own_disk().map(drop),
        }
    }

    fn disable_agent(&self) -> Result<()> {
        Ok(())
    }

    fn restart(&self) -> ! {
        panic!("restarted")
    }

    fn off(&self) -> ! {
        panic!("switched off")
    }

    fn stay(&self) -> ! {
        panic!("stays")
    }
}

fn wipe_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// What allows `order` on this machine.
fn warrant_for(deployed: &Deployed, site: &Site, order: &Order) -> Warrant {
    Warrant {
        format: 1,
        deployment: order.deployment.clone().expect("a deployment"),
        device_key: site.connection.public_key().expect("a key"),
        serial: FileMachine::identity().0.into(),
        run: deployed.mark().run,
    }
}

fn refused(result: Result<RunEnd, NotRun>) -> String {
    match result {
        Err(NotRun::Refused(why)) => why.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn without_a_warrant_that_fits_nothing_is_written() {
    let deployed = Deployed::by(Some(RunId::random()));
    let other_key = SigningKey::from_bytes(&[8; 32]);
    let site = deployed.switched_on(&[&wipe_key()]);
    let order = deployed.order("summer", TAKE_OVER);
    let good = warrant_for(&deployed, &site, &order);
    let changed = |change: &dyn Fn(&mut Warrant)| {
        let mut warrant = good.clone();
        change(&mut warrant);
        signed(warrant.text(), &wipe_key())
    };
    let mut small_order = [0; 32];
    small_order[0] = 1;
    let mut altered = signed(good.text(), &wipe_key());
    altered.text = altered.text.replace("summer", "winter");
    let mut renamed = signed(good.text(), &other_key);
    renamed.key = public(&wipe_key());
    let mut without_context = signed(good.text(), &wipe_key());
    let bare = wipe_key().sign(good.text().as_bytes());
    without_context.signature = SignatureText::from_bytes(&bare.to_bytes());
    let newer = good.text().replace(r#""format":1"#, r#""format":2"#);
    let cases = [
        ("no warrant", None, "brings no warrant"),
        (
            "another device's",
            Some(changed(&|it| {
                it.device_key = DevicePublicKey::of_ed25519(other_key.verifying_key().as_bytes())
            })),
            "another device",
        ),
        (
            "another serial number's",
            Some(changed(&|it| it.serial.push('D'))),
            "another serial number",
        ),
        (
            "another deployment's",
            Some(changed(&|it| it.deployment = "winter".parse().unwrap())),
            "another deployment",
        ),
        (
            "spent",
            Some(changed(&|it| it.run = Some(RunId::random()))),
            "used already",
        ),
        (
            "of the time before marks named runs",
            Some(changed(&|it| it.run = None)),
            "used already",
        ),
        ("altered", Some(altered), "isn't good"),
        (
            "another key's",
            Some(signed(good.text(), &other_key)),
            "doesn't know",
        ),
        (
            "another key's in the name of ours",
            Some(renamed),
            "isn't good",
        ),
        (
            "a signature over the text alone",
            Some(without_context),
            "isn't good",
        ),
        (
            "a newer one",
            Some(signed(newer, &wipe_key())),
            "can't be read",
        ),
    ];
    for (what, warrant, why) in &cases {
        let said = refused(deployed.gets(&site, &order, warrant.as_ref()));
        assert!(said.contains(why), "{what}: {said}");
        assert_eq!(deployed.machine.written(), [""; 0], "{what}");
    }
    // A key of small order fits signatures that nobody made, even if a boot image knows it.
    let mut weak = signed(good.text(), &wipe_key());
    weak.key = PublicKey::from_bytes(&small_order);
    let mut nothing = [0; 64];
    nothing[0] = 1;
    weak.signature = SignatureText::from_bytes(&nothing);
    let trust = Trust {
        wipe_keys: vec![weak.key],
        server_urls: vec!["https://forestage.example".into()],
        ..test_bundle::trust()
    };
    let host = Arc::new(On(Arc::clone(&deployed)));
    let naive = Site::new(Arc::new(Board::new(None)), host, trust);
    let said = refused(deployed.gets(&naive, &order, Some(&weak)));
    assert!(said.contains("isn't good"), "{said}");
    assert_eq!(deployed.machine.written(), [""; 0]);
    // The same order with the good one goes through, so that the cases above fail for their reason.
    let end = deployed.gets(&site, &order, Some(&signed(good.text(), &wipe_key())));
    assert!(matches!(end, Ok(RunEnd::Done(_))), "{end:?}");
    assert_ne!(deployed.machine.written(), [""; 0]);
}

#[test]
fn the_server_is_told_which_order_was_refused_and_why() {
    let deployed = Deployed::by(Some(RunId::random()));
    let site = deployed.switched_on(&[&wipe_key()]);
    let order = deployed.order("summer", TAKE_OVER);
    let good = signed(warrant_for(&deployed, &site, &order).text(), &wipe_key());
    let mut unknown = good.clone();
    unknown.key = public(&SigningKey::from_bytes(&[8; 32]));
    let mut altered = good.clone();
    altered.text = altered.text.replace("summer", "winter");
    let mut other = warrant_for(&deployed, &site, &order);
    other.run = Some(RunId::random());
    let other = signed(other.text(), &wipe_key());
    let cases = [
        (None, RefusalReason::NoWarrant),
        (Some(&unknown), RefusalReason::UnknownKey),
        (Some(&altered), RefusalReason::BadWarrant),
        (Some(&other), RefusalReason::OtherWarrant),
    ];
    for (warrant, reason) in cases {
        let text = refused(deployed.gets(&site, &order, warrant));
        let run = order.run;
        assert_eq!(
            *lock(&deployed.told),
            Some(RefusedOrder { run, reason, text })
        );
    }
    deployed.machine.disk_is_readable(false);
    let text = refused(deployed.gets(&site, &order, Some(&good)));
    let told = lock(&deployed.told).clone().expect("a refusal");
    assert_eq!(told.reason, RefusalReason::UnknownDisk);
    assert!(
        told.text.starts_with(&format!("{text}: ")),
        "with its cause"
    );
    deployed.machine.disk_is_readable(true);

    // Told until the server has another answer, and no more once an order was taken.
    deployed.server_says(&deployed.order("winter", TAKE_OVER), None);
    for is_told in [true, false] {
        site.connection.check_in().expect("an answer");
        assert_eq!(lock(&deployed.told).is_some(), is_told);
    }
    refused(deployed.gets(&site, &order, None));
    let end = deployed.gets(&site, &order, Some(&good));
    assert!(matches!(end, Ok(RunEnd::Done(_))), "{end:?}");
    site.connection.check_in().expect("an answer");
    assert_eq!(*lock(&deployed.told), None);
}

#[test]
fn a_warrant_is_spent_by_being_used() {
    for (before, sequence) in [
        (None, TAKE_OVER),
        (Some(RunId::random()), TAKE_OVER),
        (Some(RunId::random()), WITHOUT_TRACE),
    ] {
        let deployed = Deployed::by(before);
        let site = deployed.switched_on(&[&wipe_key()]);
        let order = deployed.order("summer", sequence);
        let warrant = signed(warrant_for(&deployed, &site, &order).text(), &wipe_key());
        let end = deployed.gets(&site, &order, Some(&warrant));
        assert!(matches!(end, Ok(RunEnd::Done(_))), "{end:?}");
        assert_eq!(deployed.mark().run, Some(order.run));
        assert_eq!(deployed.mark().state, MarkState::Deployed);
        deployed.machine.age();
        // Neither the order that has ended nor another one.
        for again in [order, deployed.order("summer", TAKE_OVER)] {
            let said = refused(deployed.gets(&site, &again, Some(&warrant)));
            assert!(said.contains("used already"), "{said}");
        }
        assert_eq!(deployed.machine.written(), [""; 0]);
    }
}

#[test]
fn an_order_that_was_begun_goes_on_and_another_under_its_name_does_not() {
    let deployed = Deployed::by(Some(RunId::random()));
    let order = deployed.order("summer", TAKE_OVER);
    // Begun, and cut off before the first step; and cut off between the mark and the last line.
    for run in [deployed.mark().run, Some(order.run)] {
        let (serial, uuid) = FileMachine::identity();
        let bytes = crate::durable::with_checksum(&serde_json::to_vec(&order).unwrap());
        std::fs::write(deployed.machine.staging().join("order.json"), bytes).unwrap();
        let _none = std::fs::remove_dir_all(deployed.machine.staging().join("runs"));
        deployed.machine.mark(&StagingMark {
            run,
            ..StagingMark::new(serial, uuid, MarkState::Deployed)
        });
        let site = deployed.switched_on(&[&wipe_key()]);
        let mut other = order.clone();
        other.sequence = compile(WITHOUT_TRACE).unwrap().sequence;
        let said = refused(deployed.gets(&site, &other, None));
        assert!(said.contains("brings no warrant"), "{said}");
        assert_eq!(deployed.machine.written(), [""; 0]);
        let end = deployed.gets(&site, &order, None);
        assert!(matches!(end, Ok(RunEnd::Done(_))), "{end:?}");
    }
}

#[test]
fn a_first_deployment_and_a_boot_image_without_wipe_keys_need_none() {
    let deployed = Deployed::by(None);
    let (serial, uuid) = FileMachine::identity();
    let order = deployed.order("summer", TAKE_OVER);
    let site = deployed.switched_on(&[]);
    let end = deployed.gets(&site, &order, None);
    assert!(matches!(end, Ok(RunEnd::Done(_))), "{end:?}");
    deployed
        .machine
        .mark(&StagingMark::new(serial, uuid, MarkState::Staged));
    let site = deployed.switched_on(&[&wipe_key()]);
    let order = deployed.order("autumn", TAKE_OVER);
    let end = deployed.gets(&site, &order, None);
    assert!(matches!(end, Ok(RunEnd::Done(_))), "{end:?}");
}

#[test]
fn a_disk_that_cannot_be_told_from_others_is_not_written() {
    let deployed = Deployed::by(None);
    let site = deployed.switched_on(&[&wipe_key()]);
    deployed.machine.add_twin();
    deployed.machine.age();
    let order = deployed.order("summer", TAKE_OVER);
    *lock(&deployed.answer) = None;
    let refused = crate::warrant::check(&*site.host, &site.connection, &order);
    assert!(matches!(refused, Err(NoWarrant::Unknown(_))), "{refused:?}");
    assert_eq!(deployed.machine.written(), [""; 0]);
}

#[test]
fn a_disk_that_cannot_be_read_is_not_taken_for_none() {
    let deployed = Deployed::by(None);
    let site = deployed.switched_on(&[&wipe_key()]);
    let order = deployed.order("summer", TAKE_OVER);
    deployed.machine.disk_is_readable(false);
    let unreadable = deployed.gets(&site, &order, None);
    assert!(
        matches!(unreadable, Err(NotRun::Refused(NoWarrant::Unknown(_)))),
        "{unreadable:?}"
    );
    deployed.machine.disk_is_readable(true);
    let said = refused(deployed.gets(&site, &order, None));
    assert!(said.contains("brings no warrant"), "{said}");
    assert_eq!(deployed.machine.written(), [""; 0]);
}

#[test]
fn a_deployed_disk_that_shows_late_is_not_used_by_the_run_that_began_without_it() {
    let deployed = Deployed::by(Some(RunId::random()));
    let site = deployed.switched_on(&[&wipe_key()]);
    let order = deployed.order("summer", TAKE_OVER);
    let volumes = deployed.machine.volumes();
    deployed.machine.shows_disk(false);
    crate::warrant::check(&*site.host, &site.connection, &order).unwrap();
    deployed.machine.shows_disk(true);
    let machine = LinuxMachine::new(Arc::clone(volumes));
    let refused_at = |what: &str, result: String| {
        assert!(result.contains("wasn't there when"), "{what}: {result}");
    };
    let marked = machine.mark_finished(order.run, true).unwrap_err();
    refused_at("mark", marked.chain().join(": "));
    let esp = volumes.find(VolumeRole::Esp).unwrap_err();
    refused_at("volume", format!("{esp:#}"));
    let booted = site.host.set_default_boot(BootTarget::Os).unwrap_err();
    refused_at("boot", format!("{booted:#}"));
    assert_eq!(deployed.machine.written(), [""; 0]);
    // The next check sees the disk.
    let said = refused(deployed.gets(&site, &order, None));
    assert!(said.contains("brings no warrant"), "{said}");
    let warrant = signed(warrant_for(&deployed, &site, &order).text(), &wipe_key());
    let end = deployed.gets(&site, &order, Some(&warrant));
    assert!(matches!(end, Ok(RunEnd::Done(_))), "{end:?}");
}

#[test]
fn a_serial_number_is_the_same_however_the_server_keeps_it() {
    let deployed = Deployed::by(None);
    deployed.machine.says_serial(" PF3\u{200b}ABC ");
    let (_, uuid) = FileMachine::identity();
    let serial = deployed.machine.volumes().kernel.facts().serial;
    deployed
        .machine
        .mark(&StagingMark::new(&serial, uuid, MarkState::Deployed));
    let site = deployed.switched_on(&[&wipe_key()]);
    let order = deployed.order("summer", TAKE_OVER);
    // Signed as the server tells it.
    let warrant = warrant_for(&deployed, &site, &order);
    assert_ne!(warrant.serial, serial);
    let warrant = signed(warrant.text(), &wipe_key());
    let end = deployed.gets(&site, &order, Some(&warrant));
    assert!(matches!(end, Ok(RunEnd::Done(_))), "{end:?}");
}

/// Stops at the first step, as the power may go there.
const FAILS: &str = "sequence: fails
steps:
  - id: fails
    apply-image: { image: missing }
";

#[test]
fn after_a_failed_run_an_order_without_a_warrant_changes_nothing() {
    let deployed = Deployed::by(None);
    let site = deployed.switched_on(&[&wipe_key()]);
    let failed = deployed.order("summer", FAILS);
    let warrant = signed(warrant_for(&deployed, &site, &failed).text(), &wipe_key());
    let end = deployed.gets(&site, &failed, Some(&warrant));
    assert!(matches!(end, Ok(RunEnd::Failed)), "{end:?}");
    deployed.machine.age();
    let other = deployed.order("winter", TAKE_OVER);
    let good = signed(warrant_for(&deployed, &site, &other).text(), &wipe_key());
    deployed.server_says(&other, None);
    // Its next answers have none, and the one after those does.
    *lock(&deployed.later) = Some((3, good));
    // The service of the installed OS: it leaves its OS only now.
    let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| resume::go_on(&site)));
    let why = left.unwrap_err();
    assert_eq!(why.downcast_ref::<&str>(), Some(&"restarted"));
    assert!(lock(&deployed.later).is_none());
}

#[test]
#[should_panic(expected = "restarted")]
fn a_finished_machine_that_refused_an_order_starts_its_os() {
    let deployed = Deployed::by(None);
    let site = deployed.switched_on(&[&wipe_key()]);
    let done = deployed.order("summer", TAKE_OVER);
    let warrant = signed(warrant_for(&deployed, &site, &done).text(), &wipe_key());
    let end = deployed.gets(&site, &done, Some(&warrant));
    assert!(matches!(end, Ok(RunEnd::Done(_))), "{end:?}");
    let other = deployed.order("winter", TAKE_OVER);
    *lock(&deployed.answer) = Some(CheckInReply::Idle {
        device: other.device,
        session: "session".into(),
        message: String::new(),
        retry_seconds: None,
    });
    let _next = deploy::execute(&site, &other);
}

#[test]
fn a_machine_that_refuses_an_order_says_so_and_asks_again() {
    let deployed = Deployed::by(None);
    let site = deployed.switched_on(&[&wipe_key()]);
    let order = deployed.order("summer", TAKE_OVER);
    refused(deployed.gets(&site, &order, None));
    let other = deployed.order("winter", TAKE_OVER);
    *lock(&deployed.answer) = Some(CheckInReply::Run {
        device: other.device,
        session: "session".into(),
        order: other.clone(),
        go_on: false,
        stop: false,
        warrant: None,
    });
    assert_eq!(deploy::execute(&site, &order).unwrap(), other);
    assert!(deployed.waited.load(Ordering::Relaxed) >= 60_000);
    assert_eq!(deployed.machine.written(), [""; 0]);
}
