//! What other systems get: the asset table, and messages.

use serde_json::json;

use crate::world::World;

#[test]
fn the_asset_systems_table() {
    let world = World::start();
    world.run(&["collection", "create", "pupils"]);
    world.write(
        "assets.csv",
        "Serienummer;Skolekode;Skole;Klasse\nPF1;BJO;Bjørnsletta;1STA\nPF2;TRO;Tromsø;1STA\n",
    );
    world.run(&["asset", "import", "assets.csv", "--collection", "pupils"]);
    let csv = world.run(&["asset", "export"]);
    assert!(csv.starts_with("device_id,serial,"), "{csv}");
    assert_eq!(csv.lines().count(), 3);
    let one = world.json(&["asset", "export", "--site", "TRO"]);
    assert_eq!(
        (&one[0]["serial"], &one[1]),
        (&"PF2".into(), &serde_json::Value::Null)
    );
    world.run(&[
        "asset", "export", "--format", "json", "--output", "all.json",
    ]);
    let file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.path("all.json")).unwrap()).unwrap();
    assert_eq!(file.as_array().unwrap().len(), 2);
}

#[test]
fn a_webhook_from_its_first_day_to_its_last() {
    let world = World::start();
    let add = [
        "webhook",
        "add",
        "http://127.0.0.1:9/hook",
        "--event",
        "run.completed",
    ];
    let made = world.json(&[&add[..], &["--title", "Eiendeler"]].concat());
    assert!(
        made["secret"].as_str().unwrap().starts_with("whsec_"),
        "{made}"
    );
    assert!(world.run(&["webhook", "list"]).contains("run.completed"));
    // Nobody listens there: the test says so, and the log does.
    let (code, stdout, stderr) = world.fail(&["webhook", "test", "1"]);
    assert_eq!(code, 1);
    assert!(stdout.contains("cannot connect to 127.0.0.1"), "{stdout}");
    assert!(stderr.contains("has not taken the message"), "{stderr}");
    let log = world.json(&["webhook", "log", "1", "--failed"]);
    assert_eq!(
        (&log[0]["event"], &log[0]["state"]),
        (&"test".into(), &"waiting".into())
    );
    let message = log[0]["message"].as_str().unwrap().to_owned();
    assert!(world.run(&["webhook", "pause", "1"]).contains("paused"));
    assert_eq!(world.fail(&["webhook", "resend", "1", &message]).0, 1);
    assert!(
        world
            .run(&["webhook", "resume", "1"])
            .contains("1 message waiting")
    );
    world.run(&["webhook", "resend", "1", &message]);
    let said = world.run(&["webhook", "new-secret", "1"]);
    assert!(
        said.contains("whsec_") && said.contains("good for 24 hours"),
        "{said}"
    );
    assert!(!said.contains(made["secret"].as_str().unwrap()));
    let change = [
        "webhook",
        "change",
        "1",
        "--url",
        "http://127.0.0.1:9/other",
    ];
    let changed = world.json(&change);
    assert_eq!(
        (&changed["url"], &changed["title"], &changed["events"]),
        (
            &"http://127.0.0.1:9/other".into(),
            &"Eiendeler".into(),
            &json!(["run.completed"])
        )
    );
    let everything = world.json(&["webhook", "change", "1", "--all-events"]);
    assert_eq!(everything["events"], json!([]));
    assert_eq!(world.json(&["webhook", "log", "1"])[0]["message"], message);
    world.run(&["webhook", "remove", "1"]);
    assert_eq!(world.run(&["webhook", "list"]), "no webhooks yet\n");
    let (code, _, stderr) = world.fail(&["webhook", "add", "http://assets.example/hook"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("use https://"), "{stderr}");
    assert_eq!(
        world
            .fail(&[
                "webhook",
                "add",
                "https://a.example/",
                "--event",
                "run.exploded"
            ])
            .0,
        2
    );
}

#[test]
fn a_database_password_on_the_command_line_is_refused() {
    let world = World::start();
    let serve = [
        "serve",
        "--data",
        "other",
        "--database",
        "postgres://f:hemmelig@db.example/f",
    ];
    let (code, _, stderr) = world.fail(&serve);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("FORESTAGE_DATABASE") && !stderr.contains("hemmelig"),
        "{stderr}"
    );
}
