//! What must not happen, and how it ends instead.

use std::time::Duration;

use sequence::engine::RunEnd;
use wire::event::{EventBody, FinishAction};
use wire::facts::{Bus, Disk, DiskContent};

use crate::world::{Bench, STEPS};

const END: &str = "  - { id: end, finish: { action: stay } }\n";

fn check(steps: &str, change: impl FnOnce(&mut Bench)) -> (RunEnd, Bench) {
    let mut bench = Bench::new(&format!(
        "{}\n{END}",
        steps.split("  - { id: end").next().unwrap()
    ));
    change(&mut bench);
    let end = bench.power_on().unwrap();
    (end, bench)
}

#[test]
fn disks_that_are_not_ours_are_never_written() {
    let mut stories = String::new();
    for content in [
        DiskContent::Foreign,
        DiskContent::DeployedHere,
        DiskContent::StagedElsewhere,
    ] {
        let (end, bench) = check(STEPS.split("  - { id: content").next().unwrap(), |bench| {
            bench.state.content = Some(content)
        });
        assert_eq!(end, RunEnd::Failed);
        assert!(
            !bench
                .calls
                .iter()
                .any(|call| call.starts_with("write-layout")),
            "{:?}",
            bench.calls
        );
        stories += bench.story().lines().last().unwrap();
        stories.push('\n');
    }
    insta::assert_snapshot!(stories);
}

#[test]
fn exactly_one_disk_must_match() {
    let disk = STEPS.split("  - { id: content").next().unwrap();
    let (_, none) = check(disk, |bench| bench.facts.disks[0].bus = Bus::Ata);
    let (_, two) = check(disk, |bench| {
        let second = Disk {
            path: "/dev/nvme1n1".into(),
            ..bench.facts.disks[0].clone()
        };
        bench.facts.disks.push(second);
    });
    let (_, small) = check(disk, |bench| bench.facts.disks[0].size_bytes = 4 << 30);
    let last = |bench: &Bench| bench.story().lines().last().unwrap().to_owned();
    insta::assert_snapshot!([last(&none), last(&two), last(&small)].join("\n"));
    for bench in [none, two, small] {
        assert!(
            !bench
                .calls
                .iter()
                .any(|call| call.starts_with("write-layout"))
        );
    }
}

#[test]
fn attempts_waits_and_warnings() {
    let steps = "  - { id: a, attempts: 3, wait: 10s, apply-image: { image: debian } }\n  - { id: b, continue-on-error: \
                 true, run-script: { script: fail } }";
    let (end, bench) = check(steps, |bench| {
        bench.failures = vec![("apply-image", 1), ("apply-image", 2)]
    });
    assert_eq!(end, RunEnd::Done(FinishAction::Stay));
    insta::assert_snapshot!(bench.story());
}

#[test]
fn conditions_and_templates_that_cannot_be_decided_fail_in_clear_words() {
    let mut stories = String::new();
    for steps in [
        "  - { id: a, when: klass == 'x', stage-content: {} }",
        "  - { id: a, set-identity: { hostname: '{{ site.name }}-{{ class }}' } }",
        "  - { id: a, set-identity: { hostname: '{{ klass }}' } }",
        "  - { id: a, create-user: { name: a, groups: [nobody-knows] } }",
        "  - { id: a, apply-image: { image: java } }",
        "  - { id: a, apply-image: { image: missing } }",
        "  - { id: a, set-identity: { hostname: a, time-zone: Mars/Olympus } }",
        "  - { id: a, run-script: { script: fail } }",
    ] {
        let (end, bench) = check(steps, |_| {});
        assert_eq!(end, RunEnd::Failed, "{steps}");
        stories += bench.story().lines().last().unwrap();
        stories.push('\n');
    }
    insta::assert_snapshot!(stories);
}

#[test]
fn a_step_that_takes_too_long_says_so() {
    let steps = "  - { id: a, timeout: 1s, install-packages: { packages: [java] } }";
    let (end, bench) = check(steps, |bench| bench.clock_step_ms = 300);
    assert_eq!(end, RunEnd::Failed);
    insta::assert_snapshot!(bench.story().lines().last().unwrap());
}

#[test]
fn waiting_for_a_server_is_not_counted_against_a_step() {
    let steps = "  - { id: a, timeout: 3s, install-packages: { packages: [java] } }\n  - { id: end, finish: { action: stay } }";
    let end_of = |seconds: u64| {
        let (end, _) = check(steps, |bench| {
            bench.clock_step_ms = 500;
            bench.server_away = Duration::from_secs(seconds);
        });
        end
    };
    assert_eq!(end_of(0), RunEnd::Failed);
    assert_eq!(end_of(60), RunEnd::Done(FinishAction::Stay));
}

#[test]
fn a_stop_request_ends_the_run() {
    let (end, mut bench) = check(STEPS, |bench| bench.stop_after_steps = Some(2));
    assert_eq!(end, RunEnd::Aborted);
    assert!(matches!(
        bench.journal.events.last().unwrap().body,
        EventBody::RunAborted { .. }
    ));
    bench.stop_after_steps = None;
    assert_eq!(
        bench.power_on().unwrap(),
        RunEnd::Aborted,
        "it stays stopped"
    );
}

#[test]
fn a_stopped_run_is_gone_on_with_where_it_was_if_someone_wants_it() {
    let (end, mut bench) = check(STEPS, |bench| bench.stop_after_steps = Some(3));
    assert_eq!(end, RunEnd::Aborted);
    bench.stop_after_steps = None;
    bench.go_on().unwrap();
    assert_eq!(
        bench.power_on_to_end(),
        RunEnd::Done(FinishAction::Stay),
        "{}",
        bench.story()
    );
    let begun = |path: &str| {
        let is_begun = |body: &EventBody| matches!(body, EventBody::StepStarted { path: begun, .. } if begun.as_str() == path);
        let events = &bench.journal.events;
        events.iter().filter(|event| is_begun(&event.body)).count()
    };
    assert_eq!([begun("disk"), begun("os"), begun("end")], [1, 1, 1]);
    let lines = bench.journal.events.len();
    bench.go_on().unwrap();
    assert_eq!(
        bench.journal.events.len(),
        lines,
        "a run that is done is left alone"
    );
}

#[test]
fn a_run_that_is_stopped_before_it_begins_touches_nothing() {
    let (end, bench) = check(STEPS, |bench| bench.stop_after_steps = Some(0));
    assert_eq!(end, RunEnd::Aborted);
    assert_eq!((bench.calls.len(), bench.journal.events.len()), (0, 2));
}

#[test]
fn a_machine_that_is_stopped_does_not_restart() {
    let restart = STEPS.split("  - { id: check").next().unwrap();
    let steps = restart.matches("  - ").count() - 1;
    let (end, bench) = check(restart, |bench| bench.stop_after_steps = Some(steps));
    assert!(bench.story().contains("restart Done"), "{}", bench.story());
    assert_eq!(end, RunEnd::Aborted);
}

#[test]
fn steps_before_the_disk_must_be_safe_to_repeat() {
    let steps = format!("  - {{ id: early, run-script: {{ script: 'true' }} }}{STEPS}");
    let mut bench = Bench::new(&steps);
    assert_eq!(bench.power_on().unwrap(), RunEnd::Failed);
    assert!(
        !bench.calls.iter().any(|call| call != "facts"),
        "{:?}",
        bench.calls
    );
}

#[test]
fn a_newer_sequence_is_refused_before_anything_is_touched() {
    let (end, bench) = check(STEPS, |bench| bench.order.sequence.format = 2);
    assert_eq!(end, RunEnd::Failed);
    assert!(bench.calls.is_empty());
    let (end, bench) = check(STEPS, |bench| {
        bench.order.sequence.steps[3].kind = "make-coffee".into()
    });
    assert_eq!(end, RunEnd::Failed);
    assert!(
        bench
            .story()
            .contains("doesn't know the step type make-coffee")
    );
}

#[test]
fn an_order_beyond_the_limits_is_refused_before_anything_is_touched() {
    type Change = fn(&mut wire::sequence::CompiledSequence);
    let changes: [(Change, &str); 4] = [
        (|it| it.steps[2].attempts = u32::MAX, "at most 100 attempts"),
        (|it| it.steps[2].wait_seconds = u64::MAX, "waits at most"),
        (
            |it| it.steps[2].timeout_seconds = u64::MAX,
            "takes and waits",
        ),
        (
            |it| it.steps.push(it.steps[0].clone()),
            "the path disk stands twice",
        ),
    ];
    for (change, expected) in changes {
        let (end, bench) = check(STEPS, |bench| change(&mut bench.order.sequence));
        assert_eq!((end, bench.calls.len()), (RunEnd::Failed, 0));
        assert!(bench.story().contains(expected), "{}", bench.story());
    }
}

#[test]
fn progress_is_throttled_and_never_journaled() {
    // The fake content reports 1001 times in about two seconds of the fake clock.
    let (_, bench) = check("  - { id: a, apply-image: { image: debian } }", |_| {});
    let lossy = bench
        .heard
        .iter()
        .filter(|event| event.body.is_lossy())
        .count();
    assert!((2..=10).contains(&lossy), "{lossy} reports were heard");
    assert!(
        bench
            .journal
            .events
            .iter()
            .all(|event| !event.body.is_lossy())
    );
}

#[test]
fn a_failed_run_carries_the_last_words_of_its_last_attempt() {
    let last_lines = |steps: &str| {
        let (end, bench) = check(steps, |_| {});
        assert_eq!(end, RunEnd::Failed);
        match &bench.journal.events.last().unwrap().body {
            EventBody::RunFailed { last_lines, .. } => last_lines.clone(),
            other => panic!("{other:?}"),
        }
    };
    let failing = "  - { id: a, attempts: 3, run-script: { script: fail } }";
    assert_eq!(last_lines(failing), ["fail"]);
    // The fake shell prints its script, and exits with 0, which this step calls a failure.
    let script = |lines: &str| {
        format!(
            "  - id: a\n    run-script:\n      success-exit-codes: [7]\n      script: |\n{lines}"
        )
    };
    let many: String = (1..=30)
        .map(|line| format!("        line {line}\n"))
        .collect();
    let said = last_lines(&script(&many));
    assert_eq!(
        (said.len(), said[0].as_str(), said[19].as_str()),
        (20, "line 11", "line 30")
    );
    let long = format!("        {}\n", "y".repeat(1500)).repeat(5);
    assert_eq!(last_lines(&script(&long)).len(), 2, "never more than 4 KiB");
    assert!(last_lines("  - { id: a, apply-image: { image: java } }").is_empty());
}

#[test]
fn a_talkative_step_is_cut_short() {
    let lines = "\n        line".repeat(5000);
    let long = "y".repeat(5000);
    let steps = format!("  - id: a\n    run-script:\n      script: |\n        {long}{lines}");
    let (end, bench) = check(&steps, |_| {});
    assert_eq!(end, RunEnd::Done(FinishAction::Stay));
    let text = |event: &wire::event::Event| match &event.body {
        EventBody::Log { text, .. } => Some(text.clone()),
        _ => None,
    };
    let lines: Vec<String> = bench.journal.events.iter().filter_map(text).collect();
    assert_eq!(
        (lines.len(), lines[0].len()),
        (4000, sequence::engine::LOG_LINE_BYTES_MAX)
    );
    assert!(lines.last().unwrap().contains("logged too much"));
}
