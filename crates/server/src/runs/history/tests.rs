use std::sync::Arc;

use wire::admin_api::DeviceRow;
use wire::names::RunId;

use super::*;
use crate::web::sample;

/// What would be known of the runs of these devices that ended.
pub(crate) fn past_of(rows: &[Arc<DeviceRow>]) -> Past {
    let mut names = Names::of(&[]);
    let mut runs = HashMap::new();
    for run in rows.iter().filter_map(|row| row.run.as_ref()) {
        let Some(ended_at_ms) = run.ended_at_ms else {
            continue;
        };
        let detail = sample::detail(run);
        let steps = detail.steps.iter().filter_map(|step| {
            let name = StepName {
                path: step.path.to_string(),
                title: step.title.clone(),
                kind: step.kind.clone(),
            };
            let took = u32::try_from(step.duration_ms?).ok()?;
            Some((names.place(name)?, took))
        });
        let past = PastRun {
            run: run.run,
            device: run.device,
            deployment: run.deployment.as_str().into(),
            sequence: run.sequence.as_str().into(),
            state: run.state,
            ended_at_ms,
            elapsed_seconds: run.elapsed_seconds,
            expected_seconds: run.expected_seconds,
            content: run.content,
            failed_step: run
                .failed_step
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            message: shape(run.errors.first().map_or("", String::as_str)),
            steps: steps.collect(),
        };
        runs.insert(run.run, Arc::new(past));
    }
    Past {
        runs,
        names: Arc::new(names.names),
        newest_ms: sample::NOW_MS,
    }
}

/// The same run once more, by another device or of another time.
pub(crate) fn again(past: &mut Past, run: &PastRun, number: u128, ended_at_ms: i64) {
    let id = RunId(uuid::Uuid::from_u128(number));
    let again = PastRun {
        run: id,
        device: run.device,
        deployment: Arc::clone(&run.deployment),
        sequence: Arc::clone(&run.sequence),
        state: run.state,
        ended_at_ms,
        elapsed_seconds: run.elapsed_seconds,
        expected_seconds: run.expected_seconds,
        content: run.content,
        failed_step: run.failed_step.clone(),
        message: run.message.clone(),
        steps: run.steps.clone(),
    };
    past.runs.insert(id, Arc::new(again));
}

#[test]
fn the_same_failure_is_the_same_whatever_the_numbers() {
    assert_eq!(
        shape("cannot write chunk 7f3a at 1234 of /dev/nvme0n1"),
        shape("cannot write chunk 99ab at 77 of /dev/sda1")
    );
    assert_eq!(shape(&"ø".repeat(5000)).chars().count(), SHAPE_CHARS_MAX);
}

#[test]
fn ranks() {
    let sorted: Vec<u64> = (1..=20).collect();
    assert_eq!(
        (nearest_rank(&sorted, 50), nearest_rank(&sorted, 95)),
        (10, 19)
    );
    assert_eq!(nearest_rank(&[7], 95), 7);
    assert_eq!(nearest_rank(&[], 95), 0);
}

#[test]
fn the_median_is_of_the_model_as_soon_as_there_are_enough_runs_of_it() {
    let rows = sample::kept();
    let fleet = Fleet::of(rows.clone());
    let mut past = past_of(&rows);
    let run = Arc::clone(past.runs().next().unwrap());
    let model = fleet.row(run.device).unwrap().model.product.clone();
    past.runs.retain(|id, _| *id == run.run);
    let few = medians(&past, &fleet, &run.sequence, &model);
    assert_eq!((few.model, few.steps["os"].1), (None, 1));
    for number in 1..u128::from(MODEL_RUNS_MIN) {
        again(&mut past, &run, number, sample::NOW_MS);
    }
    let many = medians(&past, &fleet, &run.sequence, &model);
    assert_eq!(many.model.as_deref(), Some(model.as_str()));
    assert_eq!(many.steps["os"], (214_000, MODEL_RUNS_MIN));
    let other = medians(&past, &fleet, "another-sequence", &model);
    assert_eq!(other, Medians::default());
}

#[test]
fn names_of_steps_have_a_limit() {
    let mut names = Names::of(&[]);
    let name = |number: usize| StepName {
        path: number.to_string(),
        title: String::new(),
        kind: String::new(),
    };
    for number in 0..STEP_NAMES_MAX {
        assert!(names.place(name(number)).is_some());
    }
    assert_eq!(names.place(name(STEP_NAMES_MAX)), None);
    assert_eq!(names.place(name(7)), Some(7), "known ones stay known");
}
