//! Strangers who want to be taken for one of ours: forged, replayed, reused and raced check-ins against a real server.
//!
//! `FORESTAGE_FORGED_ENROLMENTS=10000` makes about so many instead of 360 (`cargo xtask nightly` does);
//! `FORESTAGE_ATTACK_SEED=7` varies them otherwise, and a failure names its own.
//!
//! What no server can tell apart isn't in here: whoever comes first with the names of an imported asset that no key is bound to
//! is taken for it.

use std::collections::BTreeMap;
use std::sync::Barrier;

use client::{Client, ClientError};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use testkit::chance::{Chance, variable};
use uuid::Uuid;
use wire::admin_api::AuditRow;
use wire::device_api::{CHECK_IN_CONTEXT, CheckIn, CheckInReply, KeyPlace};
use wire::facts::{Facts, NetworkInterface};
use wire::quarantine::{Decide, Decision, QuarantineReason};
use wire::variables::{VariableChange, VariableScope};

use crate::harness::{Machine, PASSWORD, Site, hex, order_less};

const UUID: &str = "4c4c4544-0042-3510-8052-b4c04f564433";
const MAC: &str = "52:54:00:ab:00:01";
const SERIAL: &str = "PFI7KS";
const SERIAL_WITH_TPM: &str = "PFTPM7";
const CANARY: &str = "kanarifugl-4711";
const SIDE_BY_SIDE: usize = 50;

/// A server with two machines of ours, and what a stranger may have heard and kept.
struct Scene {
    site: Site,
    ours: Machine,
    /// The one whose key is in its TPM.
    with_tpm: Machine,
    /// A check-in of that one that was answered.
    heard_tpm: CheckIn,
    /// Its key, 64 hexadecimal digits: anybody may know it.
    our_key: String,
    our_run: wire::names::RunId,
    /// A check-in of it that was answered.
    heard: CheckIn,
    /// Of a machine that an administrator keeps out.
    rejected: SigningKey,
    /// What no answer to a stranger may hold.
    secrets: Vec<String>,
}

fn signing_key(chance: &mut Chance) -> SigningKey {
    SigningKey::from_bytes(chance.bytes(32).as_slice().try_into().unwrap())
}

fn our_facts() -> Facts {
    Facts {
        uuid: Some(UUID.parse().unwrap()),
        asset_tag: "T-4711".into(),
        network: vec![NetworkInterface {
            name: "enp0s2".into(),
            mac: MAC.into(),
        }],
        ..Machine::new(SERIAL).facts
    }
}

impl Scene {
    fn new() -> Self {
        let site = Site::new();
        site.prepare(100);
        let sequence =
            crate::harness::SEQUENCE.replace("update: false", "update: false\n  wifi: none");
        site.admin
            .put_sequence(&"deploy".parse().unwrap(), &sequence)
            .unwrap();
        site.import(&format!(
            "serial;uuid;asset tag;class;site code;site name\n{SERIAL};{UUID};T-4711;8B;BJO;{CANARY}-skole\n{SERIAL_WITH_TPM};;;8B;BJO;{CANARY}-skole\n"
        ));
        let change = VariableChange {
            scope: VariableScope::Device,
            name: SERIAL.into(),
            set: [("wifi".to_owned(), json!(format!("{CANARY}-wifi")))].into(),
            unset: vec![],
        };
        site.admin.change_variables(&change).unwrap();
        let mut ours = Machine::new(SERIAL);
        ours.facts = our_facts();
        let challenge = site.server.anyone().challenge().unwrap().challenge;
        let heard = ours.sign(&challenge);
        let reply: CheckInReply = site.server.anyone().check_in(&heard).unwrap();
        let CheckInReply::Run { session, order, .. } = reply else {
            panic!("no order: {reply:?}")
        };
        assert!(serde_json::to_string(&order).unwrap().contains(CANARY));
        let mut secrets = vec![CANARY.to_owned(), session, PASSWORD.to_owned()];
        for (_, bytes) in site.private_keys() {
            secrets.extend([hex(&bytes), String::from_utf8_lossy(&bytes).into_owned()]);
        }
        let with_tpm = Machine::with_tpm(SERIAL_WITH_TPM);
        let heard_tpm = with_tpm.sign(&site.server.anyone().challenge().unwrap().challenge);
        let reply: CheckInReply = site.server.anyone().check_in(&heard_tpm).unwrap();
        let CheckInReply::Run { session, .. } = reply else {
            panic!("no order: {reply:?}")
        };
        secrets.push(session);
        let scene = Self {
            our_key: heard.device_key.clone(),
            our_run: order.run,
            site,
            ours,
            heard,
            with_tpm,
            heard_tpm,
            rejected: SigningKey::from_bytes(&[9; 32]),
            secrets,
        };
        scene.reject();
        scene
    }

    /// A machine comes into quarantine, and is told to stay there.
    fn reject(&self) {
        let facts = Machine::new("PF-UKJENT").facts;
        let check_in = sign(&self.challenge(), &self.rejected, &facts, &json!({}));
        let reply = self.site.server.anyone().check_in(&check_in).unwrap();
        assert!(matches!(reply, CheckInReply::Quarantined { .. }));
        let rows = self.site.admin.quarantine().unwrap();
        let decide = Decide {
            machines: vec![rows[0].machine.clone()],
            decision: Decision::Reject {
                reason: "not ours".into(),
            },
        };
        self.site.admin.decide(&decide).unwrap();
    }

    fn challenge(&self) -> String {
        self.site.server.anyone().challenge().unwrap().challenge
    }
}

/// A check-in as a device makes it; `more` replaces members of its body.
fn sign(challenge: &str, key: &SigningKey, facts: &Facts, more: &Value) -> CheckIn {
    let mut body = json!({"facts": facts, "agent": "test", "environment": "boot-image"});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    sign_text(challenge, key, &body.to_string(), CHECK_IN_CONTEXT)
}

fn sign_text(challenge: &str, key: &SigningKey, body: &str, context: &[u8]) -> CheckIn {
    let signed = [context, challenge.as_bytes(), body.as_bytes()].concat();
    CheckIn {
        challenge: challenge.into(),
        device_key: hex(key.verifying_key().as_bytes()),
        signature: hex(&key.sign(&signed).to_bytes()),
        body: body.into(),
    }
}

/// Makes a check-in that must not succeed.
type Forge = fn(&Scene, &mut Chance) -> CheckIn;

const FORGERIES: &[(&str, Forge)] = &[
    ("our key, another's signature", |scene, chance| {
        let facts = our_facts();
        let forged = sign(&scene.challenge(), &signing_key(chance), &facts, &json!({}));
        CheckIn {
            device_key: scene.our_key.clone(),
            ..forged
        }
    }),
    ("our check-in with a byte changed", |scene, chance| {
        let mut forged = scene.ours.sign(&scene.challenge());
        let at = chance.place(forged.body.len());
        let mut bytes = forged.body.into_bytes();
        bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
        forged.body = String::from_utf8(bytes).unwrap();
        forged
    }),
    ("our check-in with another signature", |scene, chance| {
        CheckIn {
            signature: hex(&chance.bytes(64)),
            ..scene.ours.sign(&scene.challenge())
        }
    }),
    (
        "our check-in, its signature written differently",
        |scene, _| {
            let mut forged = scene.ours.sign(&scene.challenge());
            forged.signature = with_order_added(&forged.signature);
            forged
        },
    ),
    ("our check-in once more", |scene, _| scene.heard.clone()),
    ("our signature under a new challenge", |scene, _| CheckIn {
        challenge: scene.challenge(),
        ..scene.heard.clone()
    }),
    ("a challenge that was answered", |scene, chance| {
        let key = signing_key(chance);
        sign(&scene.heard.challenge, &key, &our_facts(), &json!({}))
    }),
    ("a challenge of one's own", |scene, chance| {
        let own = match chance.below(3) {
            0 => hex(&chance.bytes(32)),
            1 => String::new(),
            _ => later(&scene.challenge()),
        };
        scene.ours.sign(&own)
    }),
    ("an answered challenge in capitals", |scene, _| {
        scene.ours.sign(&scene.heard.challenge.to_uppercase())
    }),
    ("a signature for something else", |scene, chance| {
        let body = json!({"facts": our_facts(), "agent": "test"}).to_string();
        let contexts = [&b""[..], b"forestage bundle 1\0", b"forestage check-in 2\0"];
        let context = chance.pick(&contexts);
        sign_text(&scene.challenge(), &signing_key(chance), &body, context)
    }),
    ("a key that signs everything", |scene, chance| {
        // Points of small order: with them a signature of zeros fits every eighth message or every one.
        let weak = [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        ];
        let weak = *chance.pick(&weak);
        CheckIn {
            device_key: weak.into(),
            signature: format!("{weak}{}", "0".repeat(64)),
            ..sign(
                &scene.challenge(),
                &signing_key(chance),
                &our_facts(),
                &json!({}),
            )
        }
    }),
    ("all our names, another key", |scene, chance| {
        sign(
            &scene.challenge(),
            &signing_key(chance),
            &our_facts(),
            &json!({}),
        )
    }),
    ("our serial number in other letters", |scene, chance| {
        let facts = Facts {
            serial: disguised(chance),
            ..Facts::default()
        };
        sign(&scene.challenge(), &signing_key(chance), &facts, &json!({}))
    }),
    ("our UUID, another serial number", |scene, chance| {
        let uuid: Uuid = UUID.parse().unwrap();
        let swapped: Uuid = "44454c4c-4200-1035-8052-b4c04f564433".parse().unwrap();
        let facts = Facts {
            serial: format!("PX{}", chance.below(1_000_000)),
            uuid: Some(*chance.pick(&[uuid, swapped])),
            ..Facts::default()
        };
        sign(&scene.challenge(), &signing_key(chance), &facts, &json!({}))
    }),
    ("our MAC address and asset tag alone", |scene, chance| {
        let serials = ["", "To be filled by O.E.M.", "PX1", "0000000"];
        let facts = Facts {
            serial: (*chance.pick(&serials)).into(),
            uuid: None,
            ..our_facts()
        };
        sign(&scene.challenge(), &signing_key(chance), &facts, &json!({}))
    }),
    ("our names and our run", |scene, chance| {
        let more = json!({"run": scene.our_run});
        sign(
            &scene.challenge(),
            &signing_key(chance),
            &our_facts(),
            &more,
        )
    }),
    ("a body with two sets of facts", |scene, chance| {
        let (theirs, ours) = (json!(Facts::default()), json!(our_facts()));
        let body = format!(r#"{{"facts":{theirs},"facts":{ours},"agent":"test"}}"#);
        sign_text(
            &scene.challenge(),
            &signing_key(chance),
            &body,
            CHECK_IN_CONTEXT,
        )
    }),
    ("our TPM's signature with the other s", |scene, _| {
        let mut forged = scene.with_tpm.sign(&scene.challenge());
        let s = order_less(&unhex(&forged.signature[64..]));
        forged.signature.replace_range(64.., &hex(&s));
        forged
    }),
    ("our TPM's signature as DER", |scene, chance| {
        let mut forged = scene.with_tpm.sign(&scene.challenge());
        let (r, s) = forged.signature.split_at(64);
        let der = format!("30440220{r}0220{s}");
        let cut = *chance.pick(&[der.len(), 128]);
        forged.signature = der[..cut].to_owned();
        forged
    }),
    (
        "our TPM's check-in with a number of no use",
        |scene, chance| {
            const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
            let mut forged = scene.with_tpm.sign(&scene.challenge());
            let zero = "0".repeat(64);
            let number = *chance.pick(&[zero.as_str(), ORDER]);
            let half = *chance.pick(&[0, 64]);
            forged.signature.replace_range(half..half + 64, number);
            forged
        },
    ),
    ("our TPM's key, another TPM's signature", |scene, _| {
        let forged = Machine::with_tpm(SERIAL_WITH_TPM).sign(&scene.challenge());
        CheckIn {
            device_key: scene.heard_tpm.device_key.clone(),
            ..forged
        }
    }),
    ("our TPM's check-in once more", |scene, chance| CheckIn {
        challenge: chance
            .pick(&[scene.heard_tpm.challenge.clone(), scene.challenge()])
            .clone(),
        ..scene.heard_tpm.clone()
    }),
    ("our TPM's key written in another way", |scene, chance| {
        let signed = scene.with_tpm.sign(&scene.challenge());
        let (x, y) = signed.device_key.split_at(64);
        let keys = [
            format!("04{x}{y}"),
            format!("02{x}"),
            format!("03{x}"),
            x.to_owned(),
        ];
        CheckIn {
            device_key: chance.pick(&keys).clone(),
            ..signed
        }
    }),
    ("a point that isn't on the curve", |scene, chance| {
        let signed = scene.with_tpm.sign(&scene.challenge());
        let mut point = unhex(&signed.device_key);
        match chance.below(3) {
            0 => point[chance.place(64)] ^= 1 << chance.below(8),
            1 => point.fill(0),
            _ => point.rotate_left(32),
        }
        CheckIn {
            device_key: hex(&point),
            ..signed
        }
    }),
    (
        "a key of one kind given out for the other",
        |scene, chance| {
            let ed25519 = sign(
                &scene.challenge(),
                &signing_key(chance),
                &our_facts(),
                &json!({}),
            );
            let p256 = scene.with_tpm.sign(&scene.challenge());
            match chance.below(3) {
                0 => CheckIn {
                    device_key: ed25519.device_key.repeat(2),
                    ..ed25519
                },
                1 => CheckIn {
                    device_key: p256.device_key[..64].to_owned(),
                    ..p256
                },
                _ => CheckIn {
                    device_key: p256.device_key,
                    ..ed25519
                },
            }
        },
    ),
    (
        "all names of ours with a TPM, another TPM",
        |scene, chance| {
            let mut other = Machine::with_tpm(SERIAL_WITH_TPM);
            if let Some(KeyPlace::Tpm { is_other }) = &mut other.place {
                *is_other = chance.below(2) == 0;
            }
            other.sign(&scene.challenge())
        },
    ),
    (
        "all names of ours with a TPM, a key in a file",
        |scene, _| {
            let mut other = Machine::new(SERIAL_WITH_TPM);
            other.place = Some(KeyPlace::Tpm { is_other: false });
            other.sign(&scene.challenge())
        },
    ),
    ("all our names and a TPM", |scene, _| {
        let other = Machine {
            facts: our_facts(),
            ..Machine::with_tpm(SERIAL)
        };
        other.sign(&scene.challenge())
    }),
    ("a machine that is kept out", |scene, chance| {
        let serials = ["PF-UKJENT", SERIAL, "pf-ukjent", ""];
        let facts = Machine::new(chance.pick::<&str>(&serials)).facts;
        sign(&scene.challenge(), &scene.rejected, &facts, &json!({}))
    }),
];

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// The same challenge, good for a thousand years.
fn later(challenge: &str) -> String {
    format!("00001f0000000000{}", &challenge[16..])
}

/// Our serial number as it looks the same to people, or as firmware might say it.
fn disguised(chance: &mut Chance) -> String {
    let letters: [&[&str]; 6] = [
        &["P", "p", "Р", "Ρ", "Ｐ", "𝐏"],
        &["F", "f", "Ϝ", "Ｆ", "𝐅"],
        &["I", "i", "ı", "І", "Ι", "l", "İ", "Ｉ"],
        &["7", "７", "𝟕"],
        &["K", "k", "K", "К", "Κ", "Ｋ"],
        &["S", "s", "ſ", "Ѕ", "Ｓ", "$"],
    ];
    let between = [
        "", "", "", "", " ", "\u{200b}", "\u{ad}", "\u{0}", "\u{301}", "\t", "\u{feff}",
    ];
    let mut text = String::new();
    for like in letters {
        text.push_str(chance.pick::<&str>(like));
        text.push_str(chance.pick::<&str>(&between));
    }
    let around = ["", " ", "\u{a0}", "\u{202e}", "\n", "\u{3000}"];
    format!("{}{text}{}", chance.pick(&around), chance.pick(&around))
}

/// Adds the order of the group to the second half of a signature: the same number, written in another way.
fn with_order_added(signature: &str) -> String {
    const ORDER: u128 = 0x14de_f9de_a2f7_9cd6_5812_631a_5cf5_d3ed;
    let digits = |from: usize, to: usize| -> Vec<u8> {
        (from..to)
            .map(|byte| u8::from_str_radix(&signature[2 * byte..2 * byte + 2], 16).unwrap())
            .collect()
    };
    let low = u128::from_le_bytes(digits(32, 48).try_into().unwrap());
    let high = u128::from_le_bytes(digits(48, 64).try_into().unwrap());
    let (low, carry) = low.overflowing_add(ORDER);
    let high = high + (1 << 124) + u128::from(carry);
    let (low, high) = (hex(&low.to_le_bytes()), hex(&high.to_le_bytes()));
    format!("{}{low}{high}", &signature[..64])
}

/// What came of a forgery, in a word; everything but a refusal is a failure of the test.
fn refused(scene: &Scene, client: &Client, check_in: &CheckIn, place: &str) -> String {
    let answer: Result<Value, ClientError> = client.send("POST", "/device/v1/check-in", check_in);
    let text = match &answer {
        Ok(reply) => reply.to_string(),
        Err(error) => format!("{error:?}"),
    };
    for secret in &scene.secrets {
        assert!(!text.contains(secret), "{place}: it told {secret}: {text}");
    }
    match answer {
        Ok(reply) => {
            let kind = reply["answer"].as_str().unwrap_or_default();
            assert!(
                ["quarantined", "refused"].contains(&kind) && reply.get("session").is_none(),
                "{place}: {reply}"
            );
            kind.to_owned()
        }
        Err(ClientError::Refused { status, error, .. }) => {
            assert!([400, 403].contains(&status), "{place}: {status} {error:?}");
            error.code
        }
        Err(error) => panic!("{place}: {error:?}"),
    }
}

#[test]
fn no_forged_check_in_is_taken_for_ours() {
    let wanted = variable("FORESTAGE_FORGED_ENROLMENTS").unwrap_or(360);
    let seed = variable("FORESTAGE_ATTACK_SEED").unwrap_or(1);
    let scene = Scene::new();
    let bound = |scene: &Scene| {
        let rows = scene.site.admin.devices().unwrap();
        rows.iter().filter(|row| row.run.is_some()).count()
    };
    let client = scene.site.server.anyone();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for number in 0..wanted {
        let at = usize::try_from(number).unwrap() % FORGERIES.len();
        let (kind, forge) = FORGERIES[at];
        let own_seed = seed.wrapping_mul(0x1_0001).wrapping_add(number << 20);
        let forged = forge(&scene, &mut Chance::new(own_seed));
        let place = format!("{kind}, number {number}, seed {seed}");
        let code = refused(&scene, &client, &forged, &place);
        *counts.entry(code).or_default() += 1;
    }
    assert_eq!(bound(&scene), 2, "a stranger got a run");
    // The alarm, and the machine itself, which goes on as if nothing had been.
    let row = scene.site.device(SERIAL);
    assert!(row.message.unwrap().contains("another machine"));
    let quarantine = scene.site.admin.quarantine().unwrap();
    let is_second = |reason| reason == QuarantineReason::SecondClaimant;
    assert!(quarantine.iter().any(|row| is_second(row.reason)));
    let (_, order) = scene.ours.order(&scene.site);
    assert_eq!(order.run, scene.our_run);
    eprintln!("{wanted} forged check-ins: {counts:?}");
}

#[test]
fn of_many_that_claim_one_serial_at_once_one_gets_it() {
    let rounds = variable("FORESTAGE_FORGED_ENROLMENTS").map_or(1, |wanted| wanted / 1000);
    let site = Site::new();
    site.prepare(1000);
    for round in 0..rounds {
        let serial = format!("PF{round}K");
        site.import(&format!("serial;class\n{serial};8B\n"));
        let barrier = Barrier::new(SIDE_BY_SIDE);
        let claim = || {
            let machine = Machine::new(&serial);
            let client = site.server.anyone();
            let check_in = machine.sign(&client.challenge().unwrap().challenge);
            barrier.wait();
            client.check_in(&check_in).unwrap()
        };
        let replies: Vec<CheckInReply> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(claim)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let count =
            |is: fn(&CheckInReply) -> bool| replies.iter().filter(|reply| is(reply)).count();
        assert_eq!(count(|reply| matches!(reply, CheckInReply::Run { .. })), 1);
        let refused = count(|reply| matches!(reply, CheckInReply::Refused { .. }));
        assert_eq!(refused, SIDE_BY_SIDE - 1);
        let device = site.device(&serial);
        assert!(device.message.unwrap().contains("another machine"));
        let audit: Vec<AuditRow> = site.admin.get("/api/v1/audit?limit=5000").unwrap();
        let alarms = audit.iter().filter(|row| {
            row.action == "claim-refused" && row.subject == device.device.to_string()
        });
        assert_eq!(alarms.count(), SIDE_BY_SIDE - 1);
    }
}

#[test]
fn a_session_is_worth_nothing_to_others_and_nothing_after_the_key_is_reset() {
    let scene = Scene::new();
    let (session, order) = scene.ours.order(&scene.site);
    let events = format!("/device/v1/runs/{}/events", order.run);
    let nothing = json!({"events": []});
    // The server reads no body of a stranger's and closes their connection; one that is closed just then is no answer.
    let try_it = |client: &Client| -> u16 {
        let ask = || match client.send::<_, Value>("POST", &events, &nothing) {
            Ok(_) => Some(200),
            Err(ClientError::Refused { status, .. }) => Some(status),
            Err(ClientError::Unreachable { .. }) => None,
            Err(error) => panic!("{error:?}"),
        };
        (0..10).find_map(|_| ask()).expect("an answer")
    };
    assert_eq!(try_it(&session), 200);
    let mut chance = Chance::new(1);
    let anyone = scene.site.server.anyone();
    for _ in 0..100 {
        let token = hex(&chance.bytes(32));
        for token in [
            token.as_str(),
            &token[..20],
            "",
            "null",
            scene.our_key.as_str(),
        ] {
            assert_eq!(try_it(&anyone.with_token(token)), 401, "{token}");
        }
    }
    let device = scene.site.device(SERIAL).device;
    let path = format!("/api/v1/devices/{device}/reset-key");
    let _row: Value = scene.site.admin.send("POST", &path, &json!({})).unwrap();
    assert_eq!(try_it(&session), 401, "the key was reset");
    assert_eq!(try_it(&scene.site.admin), 401, "people are no devices");
}
