//! One test per chapter: each command does reach the server and says what came back.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;
use wire::secrets::SECRET_BYTES_MAX;

use crate::world::{World, failed, succeeded};

pub(crate) const SEQUENCE: &str = include_str!("tiny.yaml");

/// Packages of every kind that needs no download.
pub(crate) fn import_packages(world: &World) {
    world.write("driver/lib/firmware/blåbær.bin", vec![7; 300_000]);
    for (name, product) in [("fits", "Book 14"), ("other", "Note 15")] {
        let models = format!("models:\n  - {{ vendor: Acme, product: {product} }}\n");
        world.write(
            &format!("{name}.yaml"),
            format!("name: {name}\nversion: '1'\nkind: driver\nsource:\n  tree: driver\n{models}"),
        );
    }
    for name in ["stage", "deploy", "loader"] {
        world.write(&format!("boot/{name}.efi"), name.repeat(10_000));
    }
    world.write(
        "boot.yaml",
        "name: boot-image\nversion: '1'\nkind: boot-image\nsource:\n  tree: boot\n",
    );
    let image: Vec<u8> = (0..3_000_000_u32)
        .flat_map(|n| (n ^ (n >> 3)).to_le_bytes())
        .collect();
    world.write("os.img", &image[..8 << 20]);
    world.write(
        "os.yaml",
        "name: tiny-os\nversion: '1'\nkind: os-image\nsource:\n  image: os.img\n",
    );
    let imported = world.json(&[
        "package",
        "import",
        "fits.yaml",
        "other.yaml",
        "boot.yaml",
        "os.yaml",
    ]);
    assert_eq!(imported.as_array().unwrap().len(), 4);
    assert!(imported[0]["uploaded-bytes"].as_u64().unwrap() > 0);
    assert_eq!(
        imported[1]["uploaded-bytes"], 0,
        "the same tree again: nothing to send"
    );
}

/// Sets a secret from a file, as scripts do.
fn set_secret(world: &World, words: &[&str], value: &[u8]) -> Command {
    world.write("secret", value);
    let mut command = world.command(&[&["secret", "set"], words].concat());
    command.stdin(File::open(world.path("secret")).unwrap());
    command
}

#[test]
fn secrets() {
    let world = World::start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.server_id())).unwrap();
    let of_core = |line: &&str| line.starts_with("Max core file size");
    let of_core: Vec<&str> = limits
        .lines()
        .find(of_core)
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        of_core[4..6],
        ["0", "0"],
        "a crash would leave secrets on the disk"
    );
    assert_eq!(world.run(&["secret", "list"]), "no secrets yet\n");
    world.run(&["site", "set", "BJO", "--name", "Bjørnøya skole"]);
    let said = succeeded(set_secret(&world, &["domain-join"], b"seven sheep\n"));
    assert_eq!(said, "secret domain-join set\n");
    let said = succeeded(set_secret(
        &world,
        &["wifi", "--site", "BJO"],
        b"nine goats",
    ));
    assert_eq!(said, "secret wifi of site BJO set\n");
    let listed = world.run(&["secret", "list"]);
    for expected in ["domain-join", "wifi", "BJO", "admin"] {
        assert!(listed.contains(expected), "{listed}");
    }
    let rows = world.json(&["secret", "list"]);
    assert_eq!(
        (&rows[1]["name"], &rows[1]["site"]),
        (&json!("wifi"), &json!("BJO"))
    );
    let all = format!("{listed}{rows}");
    assert!(!all.contains("sheep") && !all.contains("goats"), "{all}");
    let too_long = vec![b'x'; SECRET_BYTES_MAX + 1];
    let (code, _, stderr) = failed(set_secret(&world, &["key"], &too_long));
    assert_eq!(code, 2);
    assert!(stderr.contains("longer than 65536 bytes"), "{stderr}");
    let (code, _, stderr) = failed(set_secret(&world, &["key"], b"\n"));
    assert_eq!(code, 1);
    assert!(
        stderr.contains("there is nothing to keep secret"),
        "{stderr}"
    );
    // Without a terminal and without anything to read, nothing is set.
    assert_eq!(world.fail(&["secret", "set", "key"]).0, 1);
    let said = world.run(&["secret", "remove", "wifi", "--site", "BJO"]);
    assert_eq!(said, "secret wifi of site BJO removed\n");
    let (code, _, stderr) = world.fail(&["secret", "remove", "wifi"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("forestage secret list"), "{stderr}");
}

#[test]
fn the_server() {
    let world = World::start();
    assert_eq!(world.json(&["status"])["logged-in"], true);
    assert!(world.run(&["status"]).contains("token good  yes"));
    let trust = world.json(&["trust", "show"]);
    assert_eq!(trust["server-urls"][0], world.url());
    assert!(
        trust["ca-pem"]
            .as_str()
            .unwrap()
            .contains("BEGIN CERTIFICATE")
    );
    for file in ["config.json", "ready.json"] {
        let mode = std::fs::metadata(world.path(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file} is for its owner alone");
    }
    let mut wrong = world.command(&["login", world.url(), "--ca", "data/tls/ca.pem"]);
    wrong.env("FORESTAGE_PASSWORD", "wrong");
    let (code, _, stderr) = failed(wrong);
    assert_eq!(code, 1);
    assert!(
        stderr.starts_with("error: cannot log in to https://localhost:"),
        "{stderr}"
    );
    // A copy of the token is worth nothing afterwards.
    let config = std::fs::read_to_string(world.path("config.json")).unwrap();
    assert_eq!(world.json(&["logout"])["revoked"], true);
    assert_eq!(world.fail(&["status"]).0, 2);
    world.write("config.json", &config);
    assert_eq!(world.fail(&["status"]).0, 1);
    assert_eq!(world.json(&["logout"])["revoked"], false);
}

#[test]
fn content_sequences_and_the_factory() {
    let world = World::start();
    import_packages(&world);
    assert!(world.run(&["package", "list"]).contains("tiny-os"));
    assert_eq!(
        world.json(&["package", "list"]).as_array().unwrap().len(),
        4
    );

    world.write("tiny.yaml", SEQUENCE);
    world.run(&["sequence", "lint", "tiny.yaml"]);
    assert_eq!(world.json(&["sequence", "put", "tiny.yaml"])["version"], 1);
    assert_eq!(world.json(&["sequence", "list"])[0]["name"], "tiny");
    assert_eq!(world.run(&["sequence", "show", "tiny"]), SEQUENCE);

    let define = [
        "prestage",
        "define",
        "book",
        "--sequence",
        "tiny",
        "--vendor",
        "Acme",
        "--product",
        "Book 14",
    ];
    world.run(&[&define[..], &["--extra", "boot-image", "--omit", "other"]].concat());
    let plan = world.run(&["prestage", "plan", "book"]);
    assert!(
        plan.contains("In the bundle") && plan.contains("Left out"),
        "{plan}"
    );
    assert_eq!(world.json(&["prestage", "build", "book"])["version"], 1);
    assert_eq!(world.json(&["prestage", "list"])[0]["prestage"], "book");
    drift(&world);
    world.run(&["prestage", "download", "book@1", "--output", "book.bundle"]);
    let (code, _, stderr) = world.fail(&["prestage", "download", "book@9", "--output", "x"]);
    assert_eq!(
        (code, stderr.lines().next()),
        (1, Some("error: there is no version 9 of the prestage book"))
    );

    compare(&world);
    world.run(&[
        "medium",
        "build",
        "--prestage",
        "book",
        "--output",
        "stick.img",
    ]);
    assert!(
        world.path("stick.img").metadata().unwrap().len()
            > world.path("book.bundle").metadata().unwrap().len()
    );
    let imported = world.json(&["receipt", "import", "stick.img"]);
    assert_eq!(imported["rows"], serde_json::json!([]), "{imported}");
    content_library(&world);
    let left: Vec<_> = std::fs::read_dir(world.path("cache"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().starts_with("work-")),
        "{left:?}"
    );
}

fn drift(world: &World) {
    let (code, _, stderr) = world.fail(&["prestage", "diff", "book"]);
    assert!(
        code == 1 && stderr.starts_with("error: the prestage book has only one version"),
        "{stderr}"
    );
    let same = world.json(&["prestage", "diff", "book@1", "book@1"]);
    assert_eq!(
        (&same["packages"], &same["steps"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    world.write("PF1.json", include_str!("receipt.json"));
    world.run(&["receipt", "import", "PF1.json"]);
    let drift = world.json(&["prestage", "drift", "book@1"]);
    assert_eq!(drift["versions"][0]["fetch-bytes"], 0, "{drift}");
    assert!(
        world
            .run(&["prestage", "drift", "book"])
            .contains("as staged")
    );
    assert_eq!(world.fail(&["prestage", "drift", "book@7"]).0, 1);
}

fn content_library(world: &World) {
    let stats = world.json(&["content", "stats"]);
    assert_eq!(stats["named-by"].as_array().unwrap().len(), 4);
    assert_eq!(stats["named-by"][0]["lost"].as_array().unwrap().len(), 0);
    assert!(world.run(&["content", "stats"]).contains("tiny-os 1"));
    assert_eq!(
        world.json(&["content", "verify"])["chunks"],
        stats["chunks"]
    );
    assert_eq!(world.json(&["content", "gc", "--dry-run"])["dry-run"], true);
    world.run(&["content", "gc"]);

    // A library in a folder loses a pack, and takes it again from the bundle.
    copy_folder(&world.path("data/library"), &world.path("copy"));
    let at = ["--library", "copy"];
    world.run(&[&["content", "verify"][..], &at].concat());
    world.run(&[&["content", "gc"][..], &at].concat());
    let packs = std::fs::read_dir(world.path("copy/packs")).unwrap();
    packs.for_each(|pack| std::fs::remove_file(pack.unwrap().path()).unwrap());
    let (code, stdout, _) = world.fail(&[&["content", "verify"][..], &at].concat());
    assert_eq!((code, stdout.contains("lost")), (1, true), "{stdout}");
    // The bundle has no drivers: what is still lost is named, and another library has it.
    let from = |from| [&["content", "repair", "--from", from][..], &at].concat();
    let (code, stdout, _) = world.fail(&from("book.bundle"));
    assert_eq!(
        (code, stdout.contains("1 chunk lost")),
        (1, true),
        "{stdout}"
    );
    let repaired = world.json(&from("data/library"));
    assert_eq!(repaired["chunks"], 1);
    assert_eq!(repaired["lacking"].as_array().unwrap().len(), 0);
    let from = ["content", "repair", "--from", "copy"];
    assert_eq!(world.json(&from)["chunks"], 0, "the server lacks nothing");
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

fn compare(world: &World) {
    let key = world.json(&["trust", "show"])["bundle-keys"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let words = [
        "content",
        "compare",
        "os.img",
        "--bundle",
        "book.bundle",
        "--package",
        "tiny-os",
        "--key",
        &key,
    ];
    assert_eq!(world.json(&words)["equal"], true);
    let mut image = std::fs::read(world.path("os.img")).unwrap();
    image[5_000_000] ^= 1;
    world.write("os.img", image);
    let (code, stdout, _) = world.fail(&words);
    assert_eq!(
        (code, stdout.contains("differs from byte")),
        (1, true),
        "{stdout}"
    );
    let mut bundle = std::fs::read(world.path("book.bundle")).unwrap();
    bundle[200] ^= 1;
    world.write("bad.bundle", bundle);
    let words = [
        "content",
        "compare",
        "os.img",
        "--bundle",
        "bad.bundle",
        "--package",
        "tiny-os",
        "--key",
        &key,
    ];
    assert!(
        world
            .fail(&words)
            .2
            .starts_with("error: cannot trust the bundle bad.bundle\n  cause: ")
    );
}

#[test]
fn the_boot_image_needs_an_agent() {
    let world = World::start();
    let (code, _, stderr) = world.fail(&[
        "boot-image",
        "build",
        "--agent",
        "none",
        "--output",
        "boot-image",
    ]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("error: cannot build the boot image boot-image\n  cause: "),
        "{stderr}"
    );
}

#[test]
fn the_school() {
    let world = World::start();
    world.write("tiny.yaml", SEQUENCE);
    import_packages(&world);
    world.run(&["sequence", "put", "tiny.yaml"]);
    world.run(&[
        "collection",
        "create",
        "pupils",
        "--title",
        "Førsteklassinger",
    ]);
    assert_eq!(
        world.json(&["collection", "list"])[0]["title"],
        "Førsteklassinger"
    );
    let create = [
        "deployment",
        "create",
        "autumn",
        "--collection",
        "pupils",
        "--sequence",
        "tiny",
        "--expected",
        "16m",
    ];
    let confirmed = ["--cap", "3", "--confirm", "autumn 3"];
    let made = world.json(&[&create[..], &confirmed, &["--stay-in-collection"]].concat());
    assert_eq!(
        (
            &made["expected-seconds"],
            &made["leave-collection-on-success"]
        ),
        (&960.into(), &false.into())
    );
    assert_eq!(world.json(&["deployment", "list"])[0]["cap"], 3);
    assert_eq!(
        world.json(&["deployment", "stop", "autumn"])["stopped"],
        true
    );
    assert_eq!(world.json(&["deployment", "list"])[0]["stopped"], true);
    let changed = world.json(&["deployment", "change", "autumn", "--slots", "2"]);
    assert_eq!((&changed["slots"], &changed["cap"]), (&2.into(), &3.into()));
    let resume = ["deployment", "resume", "autumn", "--confirm", "autumn 3"];
    assert_eq!(world.json(&resume)["stopped"], false);
    world.run(&["deployment", "stop", "autumn"]);

    let head = "Serienummer;Produsent;Modell;Skolekode;Skole;Klasse\n";
    world.write(
        "assets.csv",
        format!(
            "{head}PF1;Acme;Book 14;BJO;Bjørnsletta;1STA\n;Acme;Book 14;BJO;Bjørnsletta;1STA\n"
        ),
    );
    let (code, stdout, stderr) =
        world.fail(&["asset", "import", "assets.csv", "--collection", "pupils"]);
    assert_eq!(code, 1);
    assert!(
        stdout.contains("such as")
            && stderr.starts_with("error: 1 row of assets.csv refused, nothing was stored"),
        "{stdout}{stderr}"
    );
    world.write(
        "assets.csv",
        format!("{head}PF1;Acme;Book 14;BJO;Bjørnsletta;1STA\n"),
    );
    let words = ["asset", "import", "assets.csv", "--collection", "pupils"];
    assert_eq!(
        world.json(&[&words[..], &["--dry-run"]].concat())["dry-run"],
        true
    );
    assert_eq!(world.json(&["device", "list"]).as_array().unwrap().len(), 0);
    assert_eq!(world.json(&words)["new"], 1);

    assert_eq!(
        world.json(&["device", "list", "--site", "bjo", "--state", "imported"])[0]["serial"],
        "PF1"
    );
    assert_eq!(
        world
            .json(&["device", "list", "--state", "failed"])
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert!(world.run(&["collection", "show", "pupils"]).contains("PF1"));
    variables(&world);
    plans(&world);
    assets(&world);
    classes_and_models(&world);
    world.run(&["device", "reset-key", "PF1"]);
    assert_eq!(world.fail(&["device", "reset-key", "PF2"]).0, 1);

    world.write("PF1.json", include_str!("receipt.json"));
    world.write("broken.json", "{");
    // One that can't be read doesn't hold up the other, and a dry run holds up both.
    let import = ["receipt", "import", "broken.json", "PF1.json"];
    let dry_run = [import.as_slice(), &["--dry-run"]].concat();
    for (arguments, said, receipts) in [
        (dry_run.as_slice(), "1 receipt, nothing is stored: 1 new", 0),
        (&import, "1 receipt imported: 1 new", 1),
        (&import, "1 receipt imported: 0 new, 1 known already", 1),
    ] {
        let (code, stdout, stderr) = world.fail(arguments);
        assert!(code == 1 && stdout.contains(said), "{stdout}");
        assert!(stderr.contains("broken.json is no receipt"), "{stderr}");
        let rows = world.json(&["receipt", "list"]);
        assert_eq!(rows.as_array().unwrap().len(), receipts, "{rows}");
    }
    assert_eq!(
        world.json(&["receipt", "list"])[0]["receipt"]["serial"],
        "PF1"
    );
    assert!(world.run(&["receipt", "list"]).contains("staged"));
    let serve = world.command(&["serve", "--data", "other", "--listen", "192.0.2.1:1"]);
    let (code, _, stderr) = failed(serve);
    assert!(
        code == 1 && stderr.contains("cause: cannot listen on 192.0.2.1:1"),
        "{stderr}"
    );
}

fn variables(world: &World) {
    let set = ["variable", "set", "--model", "ACME/book 14", "room=112"];
    let made = world.json(&[&set[..], &["keyboard=no"]].concat());
    assert_eq!(
        (
            &made["name"],
            &made["devices"],
            &made["variables"][0]["value"]
        ),
        (&"acme/book 14".into(), &1.into(), &"no".into())
    );
    world.run(&["variable", "set", "--device", "pf1", "room=[a, b]"]);
    let only = ["variable", "list", "--model", "Acme/Book 14"];
    assert_eq!(world.json(&only).as_array().unwrap().len(), 2);
    assert_eq!(
        world.json(&["variable", "list"]).as_array().unwrap().len(),
        3
    );
    let shown = world.run(&["variable", "list", "--device", "PF1"]);
    assert!(
        shown.contains("device PF1") && shown.contains("model acme/book 14"),
        "{shown}"
    );
    world.run(&[
        "variable",
        "unset",
        "--model",
        "acme/Book 14",
        "room",
        "none",
    ]);
    assert_eq!(world.json(&only).as_array().unwrap().len(), 1);
    let (code, _, stderr) = world.fail(&["variable", "set", "--collection", "none", "a=1"]);
    assert!(
        code == 1 && stderr.contains("there is no collection none"),
        "{stderr}"
    );
    assert_eq!(world.fail(&["variable", "set", "a=1"]).0, 2);
    assert_eq!(
        world.fail(&["variable", "set", "--site", "BJO", "A=1"]).0,
        2
    );
}

fn plans(world: &World) {
    let plan = ["sequence", "plan"];
    let (code, _, stderr) = world.fail(&[&plan[..], &["--asset", "PF1"]].concat());
    assert!(
        code == 1 && stderr.contains("cause: no required deployment is due"),
        "the deployment was stopped: {stderr}"
    );
    let told = world.json(&[&plan[..], &["tiny", "--asset", "PF1"]].concat());
    assert_eq!(told["detail"]["run"]["steps"][1]["path"], "os");
    assert!(
        told["fetch-bytes"].as_u64().unwrap() > 0,
        "nothing was staged"
    );
    let shown = world.run(&[&plan[..], &["tiny", "--asset", "PF1"]].concat());
    assert!(shown.contains("it has never checked in"), "{shown}");
    let shown = world.run(&[&plan[..], &["tiny", "--collection", "pupils"]].concat());
    assert!(
        shown.contains("PF1") && shown.contains("1 asset"),
        "{shown}"
    );
    world.write(
        "broken.yaml",
        SEQUENCE.replace("{{ serial | lower }}", "{{ site.floor }}"),
    );
    let words = [&plan[..], &["--file", "broken.yaml", "--all"]].concat();
    let (code, stdout, stderr) = world.fail(&words);
    assert!(
        code == 1
            && stdout.contains("1 would fail")
            && stderr.starts_with("error: 1 of 1 run would fail"),
        "{stdout}{stderr}"
    );
    world.write("wrong.yaml", "sequence: x\nsteps: []\n");
    let words = [&plan[..], &["--file", "wrong.yaml", "--all"]].concat();
    assert!(world.fail(&words).1.starts_with("wrong.yaml:"));
    assert_eq!(world.fail(&[&plan[..], &["tiny"]].concat()).0, 2);
}

fn classes_and_models(world: &World) {
    let set = ["class", "set", "BJO", "1STA"];
    world.run(&[&set[..], &["--title", "Studie", "--software", "java"]].concat());
    let class = &world.json(&[&set[..], &["--year", "2026/27"]].concat())["class"];
    assert_eq!(
        (&class["title"], &class["school-year"], &class["software"]),
        (&"Studie".into(), &"2026/27".into(), &json!(["java"])),
        "what isn't said stays"
    );
    let none = world.json(&[&set[..], &["--no-software"]].concat());
    assert_eq!(none["class"]["software"], json!([]));
    let site = world.json(&["site", "set", "BJO", "--expected", "20m"]);
    assert_eq!(site["site"]["expected-seconds"], 1200);
    let deployment = world.json(&["deployment", "change", "autumn", "--expected", "0"]);
    assert_eq!(deployment["expected-seconds"], 0);
    assert_eq!(
        world.run(&["run", "list", "--state", "stopped"]),
        "no runs\n"
    );

    let alias = ["model", "alias", "Book 14 PC (5Z1A2)"];
    let said = world.json(&[&alias[..], &["--is", "Book 14", "--vendor", "Acme"]].concat());
    assert_eq!(
        (&said["vendor"], &said["product"]),
        (&"Acme".into(), &"Book 14".into())
    );
    assert!(world.run(&["model", "aliases"]).contains("Acme Book 14"));
    let itself = ["model", "alias", "BOOK  14", "--is", "Book 14"];
    assert!(world.fail(&itself).2.contains("own name"));
    world.run(&["model", "unalias", "book 14 pc (5z1a2)"]);
    assert_eq!(
        world.run(&["model", "aliases"]),
        "no names of vendors yet\n"
    );
}

fn assets(world: &World) {
    let set = world.json(&["device", "set", "PF1", "--class", "8X", "--name", "bjo-1"]);
    assert_eq!(
        (&set["device"]["class"], &set["device"]["name"]),
        (&"8X".into(), &"bjo-1".into())
    );
    assert!(world.run(&["device", "show", "PF1"]).contains("8X"));
    assert_eq!(world.fail(&["device", "set", "PF1"]).0, 2);
    assert_eq!(world.fail(&["device", "stolen", "PF1"]).0, 1);
    for (what, asset) in [("retire", "retired"), ("stolen", "stolen")] {
        let said = world.run(&["device", what, "PF1", "--reason", "gone"]);
        assert_eq!(said, format!("PF1 is {asset}\n"));
        let rows = world.json(&["device", "list", "--asset", asset]);
        assert_eq!(rows[0]["out-of-use"]["reason"], "gone");
        assert_eq!(world.json(&["device", "list"]).as_array().unwrap().len(), 0);
    }
    assert_eq!(
        world.run(&["device", "restore", "PF1"]),
        "PF1 is in use again\n"
    );
    world.run(&["device", "set", "PF1", "--class", "1STA", "--name", ""]);
}

#[test]
fn a_second_person() {
    let world = World::start_with(&["--second-person-above", "100"]);
    world.write("tiny.yaml", SEQUENCE);
    import_packages(&world);
    world.run(&["sequence", "put", "tiny.yaml"]);
    world.run(&["collection", "create", "pupils"]);
    let create = "deployment create autumn --collection pupils --sequence tiny --cap 200 --confirm";
    let words: Vec<&str> = create.split(' ').chain(["autumn 200"]).collect();
    let said = world.run(&words);
    assert!(
        said.contains("`forestage deployment approve autumn`"),
        "{said}"
    );
    let approve = ["deployment", "approve", "autumn", "--confirm", "autumn 200"];
    let (code, _, stderr) = world.fail(&approve);
    assert!(code == 1 && stderr.contains("can't approve it"), "{stderr}");

    let made = world.json(&["user", "add", "kari", "--role", "admin"]);
    let as_kari = |words: &[&str]| {
        let mut command = world.command(words);
        command.env("FORESTAGE_CONFIG", world.path("kari.json"));
        command
    };
    let mut login = as_kari(&[
        "login",
        world.url(),
        "--ca",
        "data/tls/ca.pem",
        "--user",
        "kari",
    ]);
    login
        .env(
            "FORESTAGE_PASSWORD",
            made["one-time-password"].as_str().unwrap(),
        )
        .env("FORESTAGE_NEW_PASSWORD", "another password that is long");
    succeeded(login);
    // Whoever made her account may be the one who uses it.
    let output = as_kari(&approve).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("you may be one person"), "{stderr}");
    let week_old = "UPDATE audit SET at_ms = at_ms - 8 * 86400000 WHERE action = 'user-made'";
    let mut sqlite = std::process::Command::new("sqlite3");
    sqlite.args(["-cmd", ".timeout 10000"]);
    sqlite.arg(world.path("data/forestage.db")).arg(week_old);
    let output = sqlite
        .output()
        .expect("this needs sqlite3: `apt-get install sqlite3`, or `cargo xtask setup`");
    assert!(output.status.success(), "{output:?}");
    let said = succeeded(as_kari(&approve));
    assert!(
        said.starts_with("deployment autumn: pupils runs tiny\n"),
        "{said}"
    );

    let raise = [
        "deployment",
        "raise-cap",
        "autumn",
        "300",
        "--confirm",
        "autumn 300",
    ];
    let said = world.run(&raise);
    assert!(
        said.contains("admin asked that it may touch 300 devices"),
        "{said}"
    );
    world.run(&["deployment", "decline", "autumn", "--reason", "never mind"]);
    let status = world.json(&["deployment", "status", "autumn"]);
    assert_eq!(
        (&status["cap"], &status["approval"]),
        (&200.into(), &json!(null))
    );
}
