//! Steps one by one, where the whole run doesn't show it.

use sequence::engine::RunEnd;
use wire::event::{EventBody, FinishAction};

use crate::world::{Bench, package};

const END: &str = "\n  - { id: end, finish: { action: stay } }\n";

fn check(steps: &str, change: impl FnOnce(&mut Bench)) -> Bench {
    let mut bench = Bench::new(&format!("{steps}{END}"));
    change(&mut bench);
    bench.power_on_to_end();
    bench
}

#[test]
fn an_application_that_is_there_is_left_alone() {
    let bench = check(
        "  - { id: a, install-packages: { packages: [java] } }",
        |bench| {
            bench.state.installed.insert("java".into(), "1.0".into());
        },
    );
    assert!(
        !bench
            .calls
            .iter()
            .any(|call| call.contains("installer") || call.contains("apply-tree")),
        "{:?}",
        bench.calls
    );
    insta::assert_snapshot!(bench.story());
}

#[test]
fn an_installer_that_lies_is_found_out() {
    let bench = check(
        "  - { id: a, install-packages: { packages: [java] } }",
        |bench| {
            let java = bench
                .order
                .packages
                .iter_mut()
                .find(|package| package.name.as_str() == "java")
                .unwrap();
            java.install.as_mut().unwrap().command = vec!["hostname".into()];
        },
    );
    insta::assert_snapshot!(bench.story().lines().last().unwrap());
}

#[test]
fn two_drivers_that_fit_equally_well_are_an_error() {
    let bench = check("  - { id: a, apply-drivers: {} }", |bench| {
        let mut second = package("book14", "driver");
        second.version = "2.0".parse().unwrap();
        bench.order.packages.push(second);
    });
    insta::assert_snapshot!(bench.story().lines().last().unwrap());
    let bench = check("  - { id: a, apply-drivers: {} }", |bench| {
        let mut second = package("book14", "driver");
        second.version = "2.0".parse().unwrap();
        second.models[0].product = None;
        bench.order.packages.push(second);
    });
    assert!(
        bench
            .story()
            .contains("apply the drivers for Acme book14: book14 1.0"),
        "{}",
        bench.story()
    );
}

#[test]
fn no_driver_is_no_error() {
    let bench = check("  - { id: a, apply-drivers: {} }", |bench| {
        bench.facts.product = "unknown".into()
    });
    assert!(
        bench
            .story()
            .contains("apply no drivers: none is for Acme unknown"),
        "{}",
        bench.story()
    );
}

#[test]
fn the_factory_sequence_leaves_a_disk_that_can_still_be_wiped() {
    let mut bench = Bench::new(crate::world::STEPS);
    bench.order.sequence = sequence::derive::stage_sequence(&bench.order.sequence);
    bench.order.variables.clear();
    assert_eq!(
        bench.power_on().unwrap(),
        RunEnd::Done(FinishAction::ShutDown)
    );
    assert!(!bench.state.deployed && bench.state.staged.len() == bench.order.packages.len());
    assert_eq!(
        bench.state.default_boot,
        Some(sequence::ports::BootTarget::BootImage)
    );
    insta::assert_snapshot!(bench.story());
}

/// The last line of the story: how the run ended, in words.
fn ending(bench: &Bench) -> String {
    bench.story().lines().last().unwrap().to_owned()
}

/// Cuts the power between any two journal lines, switches on again, and expects the state of a run without a cut.
fn cut_anywhere(steps: &str, change: impl Fn(&mut Bench)) {
    let whole = check(steps, &change);
    assert!(
        matches!(
            whole.journal.events.last().unwrap().body,
            EventBody::RunDone { .. }
        ),
        "{}",
        whole.story()
    );
    for cut in 0..whole.journal.events.len() {
        let mut bench = Bench::new(&format!("{steps}{END}"));
        change(&mut bench);
        bench.journal.capacity = Some(cut);
        while let Ok(RunEnd::Suspended(into)) = bench.power_on() {
            bench.environment = into;
        }
        bench.journal.capacity = None;
        bench.environment = bench.boot_environment();
        assert_eq!(
            bench.power_on_to_end(),
            RunEnd::Done(FinishAction::Stay),
            "cut after line {cut}\n{}",
            bench.story()
        );
        assert_eq!(
            bench.state,
            whole.state,
            "cut after line {cut}\n{}",
            bench.story()
        );
    }
}

/// A package whose installer asks for a restart, and that is seen only after it.
fn needs_restart(bench: &mut Bench) {
    let java = bench
        .order
        .packages
        .iter_mut()
        .find(|package| package.name.as_str() == "java")
        .unwrap();
    let install = java.install.as_mut().unwrap();
    install.command = vec!["restart-installer".into(), "java".into(), "1.0".into()];
    install.restart_exit_codes = vec![194];
}

const RESTART_IF_NEEDED: &str = "  - { id: into, restart: { into: os } }
  - { id: java, install-packages: { packages: [java] } }
  - { id: again, when: \"outputs['java']['restart-needed']\", restart: { into: os } }
  - { id: look, install-packages: { packages: [java] } }";

#[test]
fn an_installer_can_ask_for_a_restart() {
    let bench = check(RESTART_IF_NEEDED, needs_restart);
    insta::assert_snapshot!(bench.story());
    cut_anywhere(RESTART_IF_NEEDED, needs_restart);
    let bench = check(RESTART_IF_NEEDED, |_| {});
    assert!(bench.story().contains("again Skipped"), "{}", bench.story());
}

#[test]
fn a_later_failure_does_not_make_a_restart_forgotten() {
    let steps = "  - { id: a, attempts: 2, install-packages: { packages: [java, editor] } }";
    let bench = check(steps, |bench| {
        needs_restart(bench);
        // There at once, but not complete: only the installer's exit code tells.
        let java = bench
            .order
            .packages
            .iter_mut()
            .find(|package| package.name.as_str() == "java")
            .unwrap();
        java.install.as_mut().unwrap().detect = Some(wire::package::Detect::File {
            path: "/run/forestage/restart-needed/java".into(),
        });
        bench.failures = vec![("command installer editor", 1)];
    });
    let story = bench.story();
    assert!(story.contains("attempt 1 failed"), "{story}");
    assert!(
        story.contains(r#""before":["java"],"installed":["editor"],"restart-needed":true"#),
        "{story}"
    );
}

const WITH_SECRET: &str = "  - { id: a, run-script: { script: print PASSWORD, repeatable: true, secrets: { PASSWORD: \
                           wifi-school } } }";
const SECRET: &str = "blåbær-7";

/// Neither journal nor plans nor what others hear holds the secret.
fn holds_no_secret(bench: &Bench) {
    for events in [&bench.journal.events, &bench.heard] {
        let text = serde_json::to_string(events).unwrap();
        assert!(!text.contains(SECRET), "{text}");
    }
    assert!(
        !bench.calls.join("\n").contains(SECRET),
        "{:?}",
        bench.calls
    );
}

#[test]
fn a_script_gets_a_secret_and_nobody_else_does() {
    let release = |bench: &mut Bench| bench.secrets = vec![("wifi-school", SECRET)];
    let bench = check(WITH_SECRET, release);
    insta::assert_snapshot!(bench.story());
    holds_no_secret(&bench);
    cut_anywhere(WITH_SECRET, release);
}

#[test]
fn without_the_secret_the_script_does_not_run() {
    let bench = check(WITH_SECRET, |_| {});
    insta::assert_snapshot!(ending(&bench));
    assert!(
        !bench.calls.iter().any(|call| call.starts_with("command")),
        "{:?}",
        bench.calls
    );
}

/// The plans in words, but for the last: that of `finish`.
fn plans(bench: &Bench) -> String {
    let text = |event: &wire::event::Event| match &event.body {
        EventBody::StepPlanned { text, .. } => Some(format!("{text}\n")),
        _ => None,
    };
    let mut plans: Vec<String> = bench.journal.events.iter().filter_map(text).collect();
    plans.pop();
    plans.concat()
}

fn file(bench: &Bench, path: &str) -> String {
    let bytes = bench.state.files.get(camino::Utf8Path::new(path));
    String::from_utf8(bytes.unwrap_or_else(|| panic!("no {path}")).clone()).unwrap()
}

#[test]
fn a_network_is_waited_for() {
    let steps = "  - { id: a, wait-for-network: {} }\n  - { id: b, wait-for-network: { server: '{{ site.code | lower | \
                 ascii }}.skole.example:389' } }";
    let bench = check(steps, |_| {});
    insta::assert_snapshot!(plans(&bench));
    assert!(
        bench
            .calls
            .contains(&"wait-for-network baer.skole.example:389".to_owned()),
        "{:?}",
        bench.calls
    );
    cut_anywhere(steps, |_| {});
    let nowhere = check(
        "  - { id: a, attempts: 2, wait-for-network: { server: 'dc1.invalid:389' } }",
        |_| {},
    );
    let nothing = check(
        "  - { id: a, wait-for-network: { server: '{{ site.name }}:389' } }",
        |_| {},
    );
    insta::assert_snapshot!([ending(&nowhere), ending(&nothing)].join("\n"));
}

const NETWORKS: &str = "  - id: net
    set-network:
      wifi:
        - { ssid: '{{ site.code }} skole', secret: wifi-school, priority: 10 }
        - { ssid: gjest, security: open }";

fn network_manager(bench: &mut Bench) {
    let service = "/usr/lib/systemd/system/NetworkManager.service";
    bench.state.files.insert(service.into(), Vec::new());
    bench.secrets = vec![("wifi-school", "blabaer-7")];
}

#[test]
fn networks_are_set_with_a_secret_that_nobody_sees() {
    let bench = check(NETWORKS, network_manager);
    insta::assert_snapshot!(plans(&bench));
    let folder = "/etc/NetworkManager/system-connections/forestage";
    assert!(file(&bench, &format!("{folder}-wifi-1.nmconnection")).contains("\npsk=blabaer-7\n"));
    assert!(
        file(&bench, &format!("{folder}-wifi-2.nmconnection"))
            .contains("\nssid=103;106;101;115;116;\n")
    );
    insta::assert_snapshot!(file(&bench, &format!("{folder}-wired.nmconnection")));
    let events = serde_json::to_string(&(&bench.journal.events, &bench.heard)).unwrap();
    assert!(!events.contains("blabaer"), "{events}");
    assert!(
        !bench.calls.iter().any(|call| call.contains("nmcli")),
        "nothing runs yet"
    );
    cut_anywhere(NETWORKS, network_manager);
    let in_os = check(
        &format!("  - {{ id: into, restart: {{ into: os }} }}\n{NETWORKS}"),
        network_manager,
    );
    assert!(
        in_os
            .calls
            .contains(&"command nmcli connection reload".to_owned())
    );
}

#[test]
fn networks_that_cannot_be_set_are_refused_before_the_first_file() {
    let endings = [
        check(NETWORKS, |_| {}),
        check(NETWORKS, |bench| {
            network_manager(bench);
            bench.secrets.clear();
        }),
        check(NETWORKS, |bench| {
            network_manager(bench);
            bench.secrets = vec![("wifi-school", "blåbær\n")];
        }),
        check(NETWORKS, |bench| {
            network_manager(bench);
            bench
                .order
                .variables
                .insert("site".into(), serde_json::json!({ "code": "x".repeat(40) }));
        }),
    ];
    insta::assert_snapshot!(endings.iter().map(ending).collect::<Vec<_>>().join("\n"));
    for bench in endings {
        assert!(
            !bench
                .calls
                .iter()
                .any(|call| call.starts_with("write-file")),
            "{:?}",
            bench.calls
        );
    }
}

const LOGS: &str = "  - { id: a, collect-logs: { files: [/var/log/dpkg.log, /var/log/none.log] } }";

#[test]
fn logs_are_packed_onto_the_staging_partition() {
    let logs = |bench: &mut Bench| {
        bench
            .state
            .files
            .insert("/var/log/dpkg.log".into(), b"installed java\n".to_vec());
    };
    let bench = check(LOGS, logs);
    insta::assert_snapshot!(bench.story());
    let archive = String::from_utf8(bench.state.logs["a.tar"].clone()).unwrap();
    for text in [
        "var/log/dpkg.log\0",
        "installed java\n",
        "journal.txt\0",
        "journal --no-pager",
    ] {
        assert!(archive.contains(text), "{text}");
    }
    assert!(!archive.contains("--boot") && !archive.contains("none.log"));
    assert!(
        !bench
            .state
            .files
            .keys()
            .any(|path| path.starts_with("/var/cache")),
        "nothing is left behind"
    );
    cut_anywhere(LOGS, logs);
    let in_os = check(
        &format!("  - {{ id: into, restart: {{ into: os }} }}\n{LOGS}"),
        logs,
    );
    assert!(String::from_utf8_lossy(&in_os.state.logs["a.tar"]).contains("--boot"));
}

#[test]
fn logs_that_cannot_be_kept_are_an_error() {
    let bench = check(LOGS, |bench| bench.failures = vec![("keep-log", 1)]);
    insta::assert_snapshot!(ending(&bench));
}

const LOCK_DOWN: &str = "  - { id: a, lock-down: { lock-root: true, mask-units: [ssh.service], disable-ctrl-alt-delete: true, \
                         disable-text-consoles: true } }";

#[test]
fn a_machine_is_locked_down() {
    let bench = check(LOCK_DOWN, |_| {});
    insta::assert_snapshot!(plans(&bench));
    assert!(bench.state.root_locked);
    let masked: Vec<&str> = bench.state.masked.iter().map(String::as_str).collect();
    assert_eq!(
        masked,
        [
            "autovt@.service",
            "ctrl-alt-del.target",
            "getty@.service",
            "ssh.service"
        ]
    );
    assert!(
        file(
            &bench,
            "/etc/systemd/system.conf.d/50-forestage-lock-down.conf"
        )
        .contains("CtrlAltDelBurstAction=none")
    );
    assert!(
        file(
            &bench,
            "/etc/systemd/logind.conf.d/50-forestage-lock-down.conf"
        )
        .contains("NAutoVTs=0")
    );
    cut_anywhere(LOCK_DOWN, |_| {});
    let little = check(
        "  - { id: a, lock-down: { mask-units: [ssh.service] } }",
        |_| {},
    );
    assert_eq!(
        (
            little.state.root_locked,
            little.state.masked.len(),
            little.state.files.len()
        ),
        (false, 1, 0)
    );
}

#[test]
fn a_lock_that_does_not_close_is_an_error() {
    let bench = check(LOCK_DOWN, |bench| {
        bench.failures = vec![("command systemctl", 1)]
    });
    insta::assert_snapshot!(ending(&bench));
}

#[test]
fn mistakes_that_a_step_finds_in_its_arguments() {
    let found = [
        "check-machine: {}",
        "check-machine: { min-battery-percent: 101 }",
        "check-machine: { clock-not-before: 2026-02-30 }",
        "collect-logs: { journal: false }",
        "collect-logs: { files: [/var/log/../../etc/shadow] }",
        "collect-logs: { files: [/var/log/] }",
        "join-domain: { domain: skole, user: a, secret: b }",
        "join-domain: { domain: ad.skole.example, user: a, secret: 'Not A Name' }",
        "lock-down: {}",
        "lock-down: { mask-units: [ssh] }",
        "lock-down: { mask-units: [forestage-agent.service] }",
        "run-script: { script: a, env: { A: b }, secrets: { A: b } }",
        "run-script: { script: a, secrets: { 'A=B': b } }",
        "set-network: { wired: false }",
        "set-network: { wifi: [{ ssid: a }, { ssid: b, security: open, secret: c }, { ssid: '', secret: c, priority: 1000 }] }",
        "wait-for-network: { server: skole.example }",
    ]
    .map(|step| {
        let text = format!("sequence: a\nsteps:\n  - {{ id: a, {step} }}{END}");
        let findings = sequence::document::compile(&text).unwrap_err();
        let messages: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
        format!("{step}\n    {}", messages.join("\n    "))
    });
    insta::assert_snapshot!(found.join("\n"));
}

const JOIN: &str = "  - { id: into, restart: { into: os } }
  - id: join
    join-domain:
      domain: ad.skole.example
      user: join-{{ site.code | lower | ascii }}
      secret: domain-join
      computer-ou: OU={{ class }},DC=ad,DC=skole,DC=example";

fn realmd(bench: &mut Bench) {
    bench
        .state
        .files
        .insert("/usr/sbin/realm".into(), Vec::new());
    bench
        .state
        .files
        .insert("/etc/hostname".into(), b"baer-bc12\n".to_vec());
    bench.secrets = vec![("domain-join", "join-me")];
}

#[test]
fn a_domain_is_joined_once_with_a_secret_that_nobody_sees() {
    let bench = check(JOIN, realmd);
    insta::assert_snapshot!(bench.story());
    assert_eq!(bench.state.domain.as_deref(), Some("ad.skole.example"));
    let told = serde_json::to_string(&(&bench.journal.events, &bench.heard, &bench.calls)).unwrap();
    assert!(!told.contains("join-me"), "{told}");
    cut_anywhere(JOIN, realmd);
    let again = check(JOIN, |bench| {
        realmd(bench);
        bench.state.domain = Some("AD.skole.example".into());
        bench.secrets.clear();
    });
    assert!(
        again.story().contains("joined ad.skole.example already"),
        "{}",
        again.story()
    );
}

#[test]
fn a_domain_that_cannot_be_joined_is_left_alone() {
    let refused = |change: &dyn Fn(&mut Bench)| {
        let bench = check(JOIN, |bench| {
            realmd(bench);
            change(bench);
        });
        ending(&bench)
    };
    let endings = [
        refused(&|bench| bench.state.files.clear()),
        refused(&|bench| bench.state.domain = Some("other.example".into())),
        refused(&|bench| {
            bench
                .state
                .files
                .insert("/etc/hostname".into(), b"baer-1sta-pf0abc12\n".to_vec());
        }),
        refused(&|bench| bench.secrets.clear()),
        refused(&|bench| bench.secrets = vec![("domain-join", "wrong")]),
    ];
    insta::assert_snapshot!(endings.join("\n"));
}

const CHECK_ALL: &str = "  - { id: fit, attempts: 3, wait: 10s, check-machine: { min-disk: 60GiB, min-memory: 7GiB, mains-power: true, \
                         min-battery-percent: 30, firmware: uefi, tpm: true, secure-boot: true, clock-not-before: \
                         2026-01-01 } }";

fn fit(bench: &mut Bench) {
    bench.facts.tpm = true;
    bench.facts.secure_boot = true;
    bench.facts.clock = Some(1_767_225_600);
    bench.facts.power = wire::facts::Power {
        mains: Some(true),
        battery_percent: Some(30),
    };
}

#[test]
fn a_machine_that_is_fit_goes_on() {
    insta::assert_snapshot!(check(CHECK_ALL, fit).story());
    cut_anywhere(CHECK_ALL, fit);
}

#[test]
fn all_that_is_wrong_with_a_machine_is_said_at_once() {
    let bench = check(CHECK_ALL, |bench| {
        bench.facts.clock = Some(1_577_836_800);
        bench.facts.memory_bytes = 3 << 30;
        // A stick that is large enough is no built-in disk.
        bench.facts.disks[0].size_bytes = 32 << 30;
        bench.facts.disks[1].size_bytes = 128 << 30;
        bench.facts.power.mains = Some(false);
        bench.facts.firmware = wire::facts::Firmware::Bios;
    });
    insta::assert_snapshot!(ending(&bench));
    assert!(
        !bench.story().contains("attempt 2"),
        "a disk doesn't grow while the run waits"
    );
}

#[test]
fn a_machine_on_its_battery_is_waited_for() {
    let bench = check(CHECK_ALL, |bench| {
        fit(bench);
        bench.facts.power.mains = Some(false);
        bench.facts.power.battery_percent = Some(12);
    });
    insta::assert_snapshot!(bench.story());
}
