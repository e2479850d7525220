//! A server that is killed in the middle of its work, and started again.

use std::process::Stdio;
use std::time::Duration;

use crate::world::World;

const MACHINES: usize = 2000;
/// Moments at which the server is killed: between them it has written the same number of bytes.
const MOMENTS: u64 = 8;
/// The work is done in any case if it is never killed.
const NEVER: u64 = u64::MAX;
/// Between two looks at how much it has written.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Bytes that the server has written since it started: how far it is, however fast the machine.
fn written(world: &World) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/io", world.server_id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.expect("the kernel counts what processes write")
        .parse()
        .unwrap()
}

/// Does what the words say, and kills the server when it has written so many bytes meanwhile. Says how many it wrote.
fn kill_after(world: &mut World, words: &[&str], bytes: u64) -> u64 {
    let before = written(world);
    let mut work = world
        .command(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut meanwhile = 0;
    while meanwhile < bytes {
        meanwhile = written(world) - before;
        if work.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    world.kill();
    work.wait().unwrap();
    world.start_again();
    meanwhile
}

/// A draft of the file; its number.
fn draft(world: &World) -> String {
    let report = world.json(&["asset", "import", "machines.csv", "--dry-run"]);
    report["import"].to_string()
}

/// How many machines there are, and what the import says that it is.
fn seen(world: &World, import: &str) -> (usize, String) {
    let devices = world.json(&["device", "list"]);
    let shown = world.json(&["import", "show", import]);
    assert_eq!(shown["rows"].as_array().unwrap().len(), MACHINES);
    let state = shown["import"]["state"].as_str().unwrap().to_owned();
    (devices.as_array().unwrap().len(), state)
}

#[test]
fn an_import_and_its_undo_are_all_or_nothing_wherever_the_server_is_killed() {
    let mut world = World::start();
    let mut text = String::from("serial;asset tag;site;class;order number;price\n");
    for number in 0..MACHINES {
        text.push_str(&format!("PF{number:05};T{number:05};BJO;8A;4711;9990\n"));
    }
    world.write("machines.csv", text);

    let first = draft(&world);
    let accepting = kill_after(&mut world, &["import", "accept", &first], NEVER);
    assert_eq!(seen(&world, &first), (MACHINES, "accepted".to_owned()));
    let undoing = kill_after(&mut world, &["import", "undo", &first], NEVER);
    assert_eq!(seen(&world, &first), (0, "undone".to_owned()));

    // (nothing, all)
    let (mut accepted, mut undone) = ((0, 0), (0, 0));
    let mut import = draft(&world);
    for moment in 0..MOMENTS {
        kill_after(
            &mut world,
            &["import", "accept", &import],
            accepting * moment / MOMENTS,
        );
        match seen(&world, &import) {
            (0, state) if state == "draft" => {
                accepted.0 += 1;
                world.run(&["import", "accept", &import]);
            }
            (MACHINES, state) if state == "accepted" => accepted.1 += 1,
            other => panic!("killed at {moment} of {MOMENTS} while accepting: {other:?}"),
        }
        kill_after(
            &mut world,
            &["import", "undo", &import],
            undoing * moment / MOMENTS,
        );
        match seen(&world, &import) {
            (MACHINES, state) if state == "accepted" => {
                undone.0 += 1;
                world.run(&["import", "undo", &import]);
            }
            (0, state) if state == "undone" => undone.1 += 1,
            other => panic!("killed at {moment} of {MOMENTS} while undoing: {other:?}"),
        }
        import = draft(&world);
    }
    // Killed before anything was taken over, and while the rest was cleared away.
    assert!(accepted.0 > 0 && undone.0 > 0, "{accepted:?} {undone:?}");
    assert!(accepted.1 > 0 && undone.1 > 0, "{accepted:?} {undone:?}");
}
