//! A school year's worth of sample devices, for the tests of the pages and for `examples/pages.rs`.

use uuid::Uuid;
use wire::admin_api::{
    DeviceRow, DeviceState, ExpectedFrom, KeyProtection, LogLine, RunDetail, RunRow, RunVariable,
    StepRow,
};
use wire::device_plan::{DevicePlan, PlanDetail, PlannedContent, StepCounts};
use wire::event::{ContentBytes, StepOutcome};
use wire::names::{CollectionName, DeploymentName, DeviceId, RunId, SequenceName, StepPath};
use wire::package::{Model, PackageKind};
use wire::reasons::{AsideReason, Evidence, texts};
use wire::run_plan::{Decision, PlannedStep, RunPlan};
use wire::secrets::ReleaseRow;
use wire::variables::{EffectiveVariable, VariableOrigin, VariableScope};

/// The moment at which the sample is looked at.
pub(crate) const NOW_MS: i64 = 1_786_952_529_000;
/// What a hostile machine might write into every field it controls.
#[cfg(test)]
pub(crate) const HOSTILE: &str =
    "</td><script>alert(1)</script>\"><img src=x onerror=alert(2)>' onmouseover='alert(3)";

const STEPS: [(&str, &str, &str, u64, ContentBytes); 12] = [
    (
        "disk",
        "Prepare the disk",
        "format-disk",
        900,
        content(0, 0),
    ),
    (
        "os",
        "Apply Debian 12",
        "apply-image",
        214_000,
        content(2_310_000_000, 41_000_000),
    ),
    (
        "drivers",
        "Add the model's drivers",
        "apply-drivers",
        6_200,
        content(0, 38_400_000),
    ),
    (
        "identity",
        "Name the machine",
        "set-identity",
        400,
        content(0, 0),
    ),
    (
        "pupil",
        "Create the local administrator",
        "create-user",
        300,
        content(0, 0),
    ),
    (
        "apps/java",
        "Java 17",
        "install-packages",
        48_000,
        content(0, 188_000_000),
    ),
    (
        "apps/office",
        "LibreOffice",
        "install-packages",
        187_000,
        content(0, 402_000_000),
    ),
    (
        "apps/dictionary",
        "Norwegian dictionary",
        "install-packages",
        9_100,
        content(0, 4_200_000),
    ),
    (
        "boot-entry",
        "Install the boot entry",
        "install-os-boot-entry",
        1_800,
        content(0, 46_000_000),
    ),
    (
        "restart",
        "Restart into Debian",
        "restart",
        31_000,
        content(0, 0),
    ),
    (
        "os/keyboard",
        "Set the keyboard layout",
        "run-script",
        2_300,
        content(0, 0),
    ),
    ("finish", "Finish", "finish", 200, content(0, 0)),
];

const fn content(unchanged: u64, local: u64) -> ContentBytes {
    ContentBytes {
        unchanged,
        local,
        network: 0,
        network_packed: 0,
    }
}

/// Thirty devices of two schools in every state.
pub(crate) fn devices() -> Vec<DeviceRow> {
    (0..30).map(device).collect()
}

/// Two of them are handed out.
#[cfg(test)]
pub(crate) fn holders() -> crate::fleet::view::Holders {
    let pupils = ["Kari Ødegård", "Ola Nordmann"];
    let held = devices().into_iter().zip(pupils).map(|(row, name)| {
        let holder = crate::fleet::view::Holder {
            name: name.into(),
            site: row.site,
        };
        (row.device, holder)
    });
    held.collect()
}

/// The same, as the server keeps them.
pub(crate) fn kept() -> Vec<std::sync::Arc<DeviceRow>> {
    devices().into_iter().map(std::sync::Arc::new).collect()
}

fn state_of(number: usize) -> DeviceState {
    match number {
        4 => DeviceState::Failed,
        11 => DeviceState::Stalled,
        17 => DeviceState::Quarantined,
        3 | 20 => DeviceState::CheckedIn,
        0..=9 => DeviceState::Running,
        18 => DeviceState::Stopped,
        10..=18 => DeviceState::Completed,
        19..=25 => DeviceState::Staged,
        _ => DeviceState::Imported,
    }
}

fn recognised(serial: &str) -> Vec<Evidence> {
    vec![
        Evidence::SerialSame {
            serial: serial.into(),
            points: 3,
        },
        Evidence::UuidSame {
            uuid: "4c4c4544-0039-4a10-8057-b3c04f4d3233".into(),
            points: 3,
        },
        Evidence::TagPlaceholder,
        Evidence::KeyIsBound,
    ]
}

fn device(number: usize) -> DeviceRow {
    let state = state_of(number);
    let (site, site_name) = if number % 3 == 1 {
        ("KON", "Kongsbakken")
    } else {
        ("BJO", "Bjørnsletta")
    };
    let product = if number.is_multiple_of(2) {
        "ThinkPad L14 Gen 5"
    } else {
        "ProBook 445 G11"
    };
    let vendor = if number.is_multiple_of(2) {
        "LENOVO"
    } else {
        "HP"
    };
    let named = !matches!(
        state,
        DeviceState::Imported | DeviceState::Staged | DeviceState::Quarantined
    );
    let id = DeviceId(Uuid::from_u128(0x1000 + number as u128));
    let serial = format!(
        "{}{:05}",
        if number.is_multiple_of(2) {
            "PF4K"
        } else {
            "5CD41"
        },
        20_417 + number * 37
    );
    let name = named.then(|| {
        format!(
            "{}-8{}-{:02}",
            site.to_lowercase(),
            ["a", "b", "o"][number % 3],
            number + 1
        )
    });
    DeviceRow {
        device: id,
        name: name.clone(),
        assigned_name: None,
        serial: serial.clone(),
        asset_tag: format!("TK-{:05}", 40_100 + number),
        model: Model {
            vendor: vendor.into(),
            product: product.into(),
            ..Model::default()
        },
        site: site.into(),
        site_name: site_name.into(),
        class: ["8A", "8B", "8Ø"][number % 3].into(),
        state,
        message: match state {
            DeviceState::Quarantined => Some(AsideReason::SecondClaimant.to_string()),
            DeviceState::Stalled => {
                Some("No heartbeat for 4 minutes, in the middle of step 6 of 12.".into())
            }
            _ => None,
        },
        said: None,
        aside: (state == DeviceState::Quarantined).then_some(AsideReason::SecondClaimant),
        run: run(number, state, id, &serial, name),
        collections: vec![CollectionName::new("autumn-2026").expect("a valid name")],
        bundle: (!number.is_multiple_of(5)).then(|| "probook@3".into()),
        retired_key: None,
        boot_image: named.then(|| "0.2.0".into()),
        key_protection: named.then_some(KeyProtection::ALL[number % 2]),
        seen_site: named.then(|| {
            if number == 2 {
                "KON".into()
            } else {
                site.into()
            }
        }),
        seen_site_name: named.then(|| {
            if number == 2 {
                "Kongsbakken".into()
            } else {
                site_name.into()
            }
        }),
        pupil: None,
        out_of_use: None,
        last_seen_at_ms: match state {
            DeviceState::Imported => None,
            DeviceState::Staged => Some(NOW_MS - 86_400_000 * 47),
            DeviceState::Stalled => Some(NOW_MS - 254_000),
            DeviceState::Completed => Some(NOW_MS - 61_000 * number as i64),
            _ => Some(NOW_MS - 700 * number as i64),
        },
    }
}

fn run(
    number: usize,
    state: DeviceState,
    device: DeviceId,
    serial: &str,
    name: Option<String>,
) -> Option<RunRow> {
    const ELAPSED: [u64; 10] = [31, 187, 342, 0, 471, 268, 566, 655, 793, 1010];
    let (elapsed, step) = match state {
        DeviceState::Running => (ELAPSED[number], (number % 9) + 1),
        DeviceState::Failed => (ELAPSED[number], 7),
        DeviceState::Stopped => (288, 7),
        DeviceState::Stalled => (402, 6),
        DeviceState::Completed => (360 + 61 * (number as u64 - 10), 12),
        _ => return None,
    };
    let network = [0, 412_345, 0, 68_204_118][number % 4];
    let running = state == DeviceState::Running;
    Some(RunRow {
        run: RunId(Uuid::from_u128(0x2000 + number as u128)),
        device,
        serial: serial.to_owned(),
        name,
        deployment: DeploymentName::new("autumn-2026").expect("a valid name"),
        sequence: SequenceName::new("pupil-laptop").expect("a valid name"),
        state,
        step_number: u32::try_from(step).expect("twelve at most"),
        step_count: 12,
        step_title: STEPS[step - 1].1.to_owned(),
        step_percent: (running && number % 3 != 2).then_some(u8::try_from(number * 11 % 100).expect("below 100")),
        started_at_ms: NOW_MS - 1000 * (elapsed as i64 + 1),
        ended_at_ms: (!running && state != DeviceState::Stalled).then_some(NOW_MS - 1000),
        elapsed_seconds: elapsed,
        expected_seconds: 600,
        expected_from: ExpectedFrom::Deployment,
        content: ContentBytes {
            unchanged: 2_310_000_000,
            local: 412_000_000,
            network: network * 3,
            network_packed: network,
        },
        server_bytes: network + 218_400,
        interface_bytes: network + 231_077,
        errors: if state == DeviceState::Failed {
            vec![
                "cannot install package libreoffice 7.4.7-1+deb12u8".into(),
                "`dpkg --install` ended with exit code 1".into(),
                "libreoffice-core depends on libpoppler126, which is not installed".into(),
            ]
        } else {
            Vec::new()
        },
        failed_step: (state == DeviceState::Failed).then(|| StepPath::new("apps/office").expect("a valid path")),
        hint: (state == DeviceState::Failed)
            .then(|| "Add the package `libpoppler126` to the content of `libreoffice`, then run it again.".into()),
        last_seen_at_ms: NOW_MS - 254_000,
    })
}

/// The details of the run of `row`.
pub(crate) fn detail(row: &RunRow) -> RunDetail {
    let current = row.step_number as usize;
    let mut offset = 4_000;
    let mut steps = Vec::new();
    for (index, (path, title, kind, duration, content)) in STEPS.into_iter().enumerate() {
        let state = match (index + 1).cmp(&current) {
            std::cmp::Ordering::Greater => "waiting",
            std::cmp::Ordering::Equal => match row.state {
                DeviceState::Failed => "failed",
                DeviceState::Completed => "done",
                _ => "running",
            },
            std::cmp::Ordering::Less if path == "drivers" => "warning",
            std::cmp::Ordering::Less if path == "apps/dictionary" => "skipped",
            std::cmp::Ordering::Less => "done",
        };
        let begun = state != "waiting";
        let duration = if state == "skipped" { 10 } else { duration };
        let mut content = content;
        if path == "apps/java" {
            content.network = 71_000_000;
            content.network_packed = 24_613_004;
        }
        steps.push(StepRow {
            path: StepPath::new(path).expect("a valid path"),
            title: title.into(),
            kind: kind.into(),
            state: state.into(),
            offset_ms: begun.then_some(offset),
            duration_ms: (begun && state != "running").then_some(duration),
            attempts: if !begun {
                0
            } else if state == "failed" {
                3
            } else {
                1
            },
            plan: if begun {
                plan_of(path).into()
            } else {
                String::new()
            },
            message: match state {
                "failed" => Some("`dpkg --install` ended with exit code 1".into()),
                "warning" => Some(
                    "No driver package is marked for this SKU; used the one for the product name."
                        .into(),
                ),
                "skipped" => Some("Condition is false: class != \"staff\"".into()),
                _ => None,
            },
            outcome: match state {
                "done" => Some(StepOutcome::Done),
                "warning" => Some(StepOutcome::Warning),
                "skipped" => Some(StepOutcome::Skipped),
                _ => None,
            },
            content: if begun && state != "skipped" {
                content
            } else {
                ContentBytes::default()
            },
            median_ms: Some(duration + duration / 5),
            median_runs: 40,
        });
        if begun {
            offset += duration + 350;
        }
    }
    let content = steps.iter().fold(ContentBytes::default(), |mut sum, step| {
        sum += step.content;
        sum
    });
    RunDetail {
        row: RunRow {
            content,
            server_bytes: 24_913_110,
            interface_bytes: 25_804_338,
            ..row.clone()
        },
        log: log(&steps, row),
        steps,
        last_lines: match row.state {
            DeviceState::Failed => vec![
                "Preparing to unpack libreoffice-core_7.4.7-1+deb12u8_amd64.deb ...".into(),
                "dpkg: dependency problems prevent configuration of libreoffice-core:".into(),
                " libreoffice-core depends on libpoppler126; however:".into(),
                "  Package libpoppler126 is not installed.".into(),
            ],
            _ => Vec::new(),
        },
        identity: texts(&recognised(&row.serial)),
        said: recognised(&row.serial),
        median_model: Some("ThinkPad L14 Gen 5".into()),
        confirm_rerun: Some(format!("rerun {}", row.serial)),
        secrets: vec![ReleaseRow {
            secret: "domain-join".parse().expect("a name"),
            site: String::new(),
            released_at_ms: NOW_MS - 60_000,
            answers: 2,
        }],
        variables: vec![
            RunVariable {
                name: "timezone".into(),
                value: Some("Europe/Oslo".into()),
            },
            RunVariable {
                name: "admin_password".into(),
                value: None,
            },
        ],
    }
}

fn plan_of(path: &str) -> &'static str {
    match path {
        "disk" => "nvme0n1 (256 GB) is staged for this device: keep its partitions",
        "os" => "make /dev/nvme0n1p2 equal debian-12 2026.08.1: 2.35 GB in 36 114 chunks",
        "drivers" => "lay lenovo-l14-firmware 3 over the OS",
        "identity" => "host name bjo-8b-05, locale nb_NO.UTF-8, keyboard no, time zone Europe/Oslo",
        "apps/java" => "install openjdk-17-jre 17.0.16+8-1~deb12u1",
        "apps/office" => "install libreoffice 4:7.4.7-1+deb12u8",
        "restart" => "restart into the installed OS",
        _ => "as the document says",
    }
}

fn log(steps: &[StepRow], row: &RunRow) -> Vec<LogLine> {
    let mut log = Vec::new();
    let mut add = |at: u64, level: &str, step: Option<&StepPath>, text: String| {
        let seq = log.len() as u64 + 1;
        let received_at_ms = row.started_at_ms + at as i64;
        log.push(LogLine {
            seq,
            received_at_ms,
            level: level.into(),
            step: step.cloned(),
            text,
        });
    };
    add(
        900,
        "info",
        None,
        format!("order received for run {}", row.run),
    );
    for step in steps {
        let Some(offset) = step.offset_ms else {
            continue;
        };
        add(
            offset,
            "info",
            Some(&step.path),
            format!("{} begins", step.title),
        );
        if !step.plan.is_empty() {
            add(offset + 40, "info", Some(&step.path), step.plan.clone());
        }
        if let Some(message) = &step.message {
            let level = if step.state == "failed" {
                "error"
            } else {
                "warning"
            };
            for attempt in 1..=step.attempts {
                let at = offset
                    + step.duration_ms.unwrap_or(0) * u64::from(attempt) / u64::from(step.attempts);
                add(
                    at,
                    level,
                    Some(&step.path),
                    format!("attempt {attempt} of {}: {message}", step.attempts),
                );
            }
        }
        if let Some(duration) = step.duration_ms {
            add(
                offset + duration,
                "info",
                Some(&step.path),
                format!("{} ended after {duration} ms", step.title),
            );
        }
    }
    log
}

/// A device whose every text is an attack.
#[cfg(test)]
pub(crate) fn hostile_device() -> DeviceRow {
    let mut row = device(4);
    let text = || HOSTILE.to_owned();
    row.name = Some(text());
    row.serial = text();
    row.asset_tag = text();
    row.model = Model {
        vendor: text(),
        product: text(),
        sku: text(),
        baseboard: text(),
    };
    row.site = text();
    row.site_name = text();
    row.class = text();
    row.message = Some(text());
    row.said = Some(wire::reasons::MachineReason::from(text()));
    row.aside = Some(AsideReason::from(text()));
    row.boot_image = Some(text());
    row.seen_site = Some("elsewhere".into());
    row.seen_site_name = Some(text());
    if let Some(run) = &mut row.run {
        run.serial = text();
        run.name = Some(text());
        run.step_title = text();
        run.errors = vec![text(), text()];
        run.hint = Some(text());
    }
    row
}

/// A plan with a step of every kind.
pub(crate) fn plan() -> DevicePlan {
    let step = |path: &str, title: &str, kind: &str, decision: Decision| PlannedStep {
        path: path.parse().expect("a path"),
        title: title.into(),
        kind: kind.into(),
        decision,
        condition: None,
        text: None,
        until: Vec::new(),
        errors: Vec::new(),
        hint: None,
    };
    let seen = || vec!["the machine checks in".to_owned()];
    let steps = vec![
        PlannedStep {
            until: seen(),
            ..step("disk", "Prepare the disk", "format-disk", Decision::Runs)
        },
        PlannedStep {
            text: Some("make the os volume equal to debian-12 12.11 (2.31 GB)".into()),
            ..step("os", "Apply Debian 12", "apply-image", Decision::Runs)
        },
        PlannedStep {
            condition: Some("class == \"1STA\"".into()),
            ..step("apps/cad", "Drawing", "install-packages", Decision::Skipped)
        },
        PlannedStep {
            condition: Some("memory_bytes > 8000000000".into()),
            until: seen(),
            text: Some("install office 7.6 unless already there".into()),
            ..step(
                "apps/office",
                "LibreOffice",
                "install-packages",
                Decision::Undecided,
            )
        },
        PlannedStep {
            errors: vec![
                "cannot fill in the template `{{ site.floor }}`".into(),
                "it asks for a value that isn't there".into(),
            ],
            hint: Some(
                "correct it in the sequence, or give the name a value under `variables`".into(),
            ),
            ..step(
                "identity",
                "Name the machine",
                "set-identity",
                Decision::Fails,
            )
        },
    ];
    let package =
        |name: &str, version: &str, staged: Option<&str>, bytes: u64, fetch: u64| PlannedContent {
            name: name.parse().expect("a name"),
            version: version.parse().expect("a version"),
            kind: PackageKind::Application,
            content_bytes: bytes,
            certain: name != "office",
            staged: staged.map(|version| version.parse().expect("a version")),
            fetch_bytes: fetch,
        };
    let variable = |key: &str, value: serde_json::Value, origin| EffectiveVariable {
        key: key.into(),
        value,
        origin,
    };
    let scope = |scope, name: &str| VariableOrigin::Scope {
        scope,
        name: name.into(),
    };
    let sequence: SequenceName = "pupil-laptop".parse().expect("a name");
    DevicePlan {
        device: DeviceId(Uuid::from_u128(7)),
        serial: "PF A/1".into(),
        model: Model {
            vendor: "Acme".into(),
            product: "Book 14".into(),
            ..Model::default()
        },
        site: "BJØ".into(),
        site_name: "Bjørnøya skole".into(),
        class: "8B".into(),
        is_seen: false,
        staged: Some("book-14@2".parse().expect("a version")),
        deployment: Some("autumn".parse().expect("a name")),
        sequence: Some(sequence.clone()),
        host_name: Some("bjo-8b-0a1".into()),
        steps: StepCounts {
            runs: 2,
            skipped: 1,
            undecided: 1,
            fails: 1,
        },
        problem: Some("step `identity`: cannot fill in the template `{{ site.floor }}`".into()),
        fetch_bytes: 414_000_000,
        fetch_bytes_certain: 12_000_000,
        detail: Some(PlanDetail {
            run: RunPlan {
                sequence: sequence.clone(),
                steps,
                host_name: None,
                packages: Vec::new(),
            },
            variables: vec![
                variable("class", "8B".into(), VariableOrigin::Asset),
                variable(
                    "keyboard",
                    "no".into(),
                    VariableOrigin::Sequence { name: sequence },
                ),
                variable("room", 112.into(), scope(VariableScope::Site, "BJØ")),
                variable(
                    "wifi",
                    "pupils".into(),
                    scope(VariableScope::Model, "acme/book 14"),
                ),
            ],
            packages: vec![
                package("debian-12", "12.11", Some("12.11"), 2_310_000_000, 0),
                package("java", "17.0.21", Some("17.0.20"), 188_000_000, 12_000_000),
                package("office", "7.6", None, 890_000_000, 402_000_000),
            ],
        }),
    }
}

/// A plan whose every text is an attack.
#[cfg(test)]
pub(crate) fn hostile_plan() -> DevicePlan {
    let mut plan = plan();
    for text in [
        &mut plan.serial,
        &mut plan.site,
        &mut plan.site_name,
        &mut plan.class,
        &mut plan.model.vendor,
        &mut plan.model.product,
    ] {
        *text = HOSTILE.into();
    }
    plan.host_name = Some(HOSTILE.into());
    plan.problem = Some(HOSTILE.into());
    let detail = plan.detail.as_mut().expect("it has one");
    for step in &mut detail.run.steps {
        step.title = HOSTILE.into();
        step.kind = HOSTILE.into();
        step.condition = Some(HOSTILE.into());
        step.text = Some(HOSTILE.into());
        step.until = vec![HOSTILE.into()];
        step.errors = vec![HOSTILE.into()];
        step.hint = Some(HOSTILE.into());
    }
    for variable in &mut detail.variables {
        variable.key = HOSTILE.into();
        variable.value = HOSTILE.into();
        variable.origin = VariableOrigin::Scope {
            scope: VariableScope::Site,
            name: HOSTILE.into(),
        };
    }
    plan
}

/// A run whose every text is an attack.
#[cfg(test)]
pub(crate) fn hostile_detail() -> RunDetail {
    let row = hostile_device().run.expect("it has one");
    let mut detail = detail(&row);
    for step in &mut detail.steps {
        step.title = HOSTILE.into();
        step.kind = HOSTILE.into();
        step.state = HOSTILE.into();
        step.plan = HOSTILE.into();
        step.message = Some(HOSTILE.into());
    }
    for line in &mut detail.log {
        line.level = HOSTILE.into();
        line.text = HOSTILE.into();
    }
    detail.said = vec![Evidence::Decided {
        who: HOSTILE.into(),
    }];
    detail.last_lines = vec![HOSTILE.into()];
    detail.median_model = Some(HOSTILE.into());
    detail.confirm_rerun = Some(HOSTILE.into());
    for variable in &mut detail.variables {
        variable.name = HOSTILE.into();
        variable.value = Some(HOSTILE.into());
    }
    detail
}

/// Checks that [`HOSTILE`] occurs in `html`, and only as text.
#[cfg(test)]
pub(crate) fn assert_harmless(html: &str) {
    let lower = html.to_lowercase();
    assert!(
        lower.contains("&lt;script&gt;alert(1)"),
        "the text is shown"
    );
    for danger in [
        "<script>alert",
        "<img",
        "alert(1)</script",
        "\"><",
        "\" onerror",
        "\" onmouseover",
    ] {
        let harmless = danger == "\"><" && !html.contains("\"><img");
        assert!(harmless || !lower.contains(danger), "{danger} in {html}");
    }
}
