use std::sync::Arc;
use std::time::Instant;

use jiff::tz::TimeZone;
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
fn what_a_sequence_usually_takes_is_known_after_a_few_runs_that_were_completed() {
    let mut past = past_of(&sample::kept());
    let run = |past: &Past, state| Arc::clone(past.runs().find(|run| run.state == state).unwrap());
    let (done, failed) = (
        run(&past, DeviceState::Completed),
        run(&past, DeviceState::Failed),
    );
    past.runs.clear();
    for number in 1..u128::try_from(USUAL_RUNS_MIN).unwrap() {
        again(&mut past, &done, number, sample::NOW_MS);
        again(&mut past, &failed, 100 + number, sample::NOW_MS);
    }
    assert_eq!(usual_seconds(&past, &done.sequence), None);
    again(&mut past, &done, 99, sample::NOW_MS);
    let usual = usual_seconds(&past, &done.sequence);
    assert_eq!(usual, Some(done.elapsed_seconds));
    assert_eq!(usual_seconds(&past, "another-sequence"), None);
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

/// Ten runs of a day of the past, whose figures are written down: those of run and device `n`.
const MANY: [&str; 4] = [
    "INSERT INTO sites (code, name) VALUES ('BJO', 'Bjørkås') ON CONFLICT (code) DO NOTHING; \
     INSERT INTO collections (name, title) VALUES ('all', ''); \
     INSERT INTO deployments (name, collection, document, stopped, created_at_ms) VALUES ('autumn', 'all', \
     '{\"name\":\"autumn\",\"collection\":\"all\",\"sequence\":\"laptop\",\"purpose\":\"required\",\
     \"expected-seconds\":1800,\"cap\":100000}', 0, 0)",
    "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2499) \
     INSERT INTO devices (id, serial, serial_key, asset_tag, asset_tag_key, uuid, vendor, product, sku, baseboard, \
     site, class, message, waiting, facts, identity, staged, imported_at_ms, checked_in_at_ms, last_seen_at_ms) \
     SELECT '00000000-0000-4000-8000-' || CAST(100000000000 + n AS TEXT), 'PF' || n, 'PF' || n, '', '', '', 'Acme', \
     'Book 14', '', '', 'BJO', '8A', '', '', '', '[]', '', 0, 0, 0 FROM numbers",
    "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < RUNS - 1) \
     INSERT INTO runs (id, device, deployment, sequence, sequence_version, order_document, state, stop, take, \
     acknowledged, server_bytes, identity, started_at_ms, ended_at_ms, last_seen_at_ms, host_name) \
     SELECT '00000000-0000-4000-9000-' || CAST(100000000000 + n AS TEXT), \
     '00000000-0000-4000-8000-' || CAST(100000000000 + n % 2500 AS TEXT), 'autumn', 'laptop', 1, '{}', \
     CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'completed' END, 0, 1, 9, 0, '[]', 1770000000000 + n * 60000, \
     1770000000000 + n * 60000 + 900000 + n % 977 * 1000, 0, '' FROM numbers",
    "INSERT INTO run_figures (run, ended_at_ms, document) SELECT id, ended_at_ms, \
     '{\"content\":{\"unchanged\":1000,\"local\":9000000000,\"network\":70000000,\"network-packed\":30000000},\
     \"failed-step\":\"\",\"message\":\"\",\"steps\":[[\"disk\",\"Lay out the disk\",\"format-disk\",9000],\
     [\"os\",\"System\",\"apply-image\",214000],[\"drivers\",\"Drivers\",\"apply-drivers\",41000],\
     [\"apps/office\",\"Office\",\"apply-files\",52000],[\"apps/cad\",\"Drawing\",\"apply-files\",77000],\
     [\"name\",\"Name\",\"set-identity\",6000],[\"boot\",\"Boot\",\"install-os-boot\",8000],\
     [\"finish\",\"Done\",\"finish\",2000]]}' FROM runs",
];

/// Says how long figures take; judges only that all runs are in them. `FORESTAGE_MANY_RUNS` says how many there are.
#[tokio::test]
async fn many_runs_are_all_counted() {
    let count: usize = std::env::var("FORESTAGE_MANY_RUNS")
        .map_or(2000, |count| count.parse().expect("a number of runs"));
    let folder = tempfile::tempdir().unwrap();
    let path = camino::Utf8Path::from_path(folder.path()).unwrap();
    let db = Db::open(&path.join("a.db"), None).await.unwrap();
    let mut write = db.write().await.unwrap();
    for sql in MANY {
        let sql = sql.replace("RUNS", &count.to_string());
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut *write)
            .await
            .unwrap();
    }
    commit(write).await.unwrap();
    let history = History::default();
    let began = Instant::now();
    let past = history.read(&db).await.unwrap();
    eprintln!(
        "{count} runs read for the first time: {:?}",
        began.elapsed()
    );
    let began = Instant::now();
    history.read(&db).await.unwrap();
    eprintln!("again, when nothing new has ended: {:?}", began.elapsed());
    let rows: Vec<_> = (0..2500_u64)
        .map(|n| {
            let mut row = (*sample::kept()[0]).clone();
            row.device = DeviceId(
                format!("00000000-0000-4000-8000-{}", 100_000_000_000 + n)
                    .parse()
                    .unwrap(),
            );
            Arc::new(row)
        })
        .collect();
    let began = Instant::now();
    let (filter, period) = Default::default();
    let chosen = crate::runs::insights::Chosen::of(rows, &past, &filter, period, TimeZone::UTC);
    let told = chosen.insights(&past);
    eprintln!("figures of {count} runs: {:?}", began.elapsed());
    assert_eq!(told.runs, u64::try_from(count).unwrap());
    assert_eq!(told.steps.len(), 8);
    assert_eq!(told.steps[0].runs, told.runs);
    db.close().await;
}
