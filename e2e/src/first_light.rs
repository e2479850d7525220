//! First light: laptops from bare disk to a pupil's desk.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use content::{Library, Manifest, NoMeter};
use testkit::vm::{AgentLine, Captured, Vm, captured, pressed_keys};
use wire::admin_api::{DeviceState, PackageRow, PrestageVersion, RunRow};
use wire::device_plan::DevicePlan;
use wire::digest::Digest;
use wire::names::PackageName;
use wire::package::{Package, PackageKind};
use wire::run_plan::Decision;

use crate::FirstLight;
use crate::check;
use crate::console::{bytes, chapter, say};
use crate::documents;
use crate::fleet::Laptop;
use crate::summary::{LaptopFigures, Phase, Sizes, Summary};
use crate::world::{Places, World};

/// 32 GB, the smallest disk a laptop is sold with.
const DISK_BYTES: u64 = 32_000_000_000;
/// What a deployment without updates may move over the network, both ways, everything counted.
const NETWORK_BYTES_MAX: u64 = 1 << 20;
/// The application that is updated between the two laptops.
const UPDATED: &str = "openjdk-17-jre";
/// What a deployment, a first start and the applications' own scripts change in the OS image's files.
const MAY_DIFFER: &[&str] = &[
    // Written by Debian at a start that finds a changed keyboard, as soon as it gets to it.
    "etc/console-setup/cached_",
    "etc/default/keyboard",
    "etc/default/locale",
    "etc/group",
    "etc/gshadow",
    "etc/hostname",
    "etc/hosts",
    "etc/ld.so.cache",
    "etc/localtime",
    "etc/machine-id",
    "etc/passwd",
    "etc/resolv.conf",
    "etc/shadow",
    "etc/subgid",
    "etc/subuid",
    "etc/timezone",
    "etc/vconsole.conf",
    "var/cache/",
    "var/lib/dpkg/",
    "var/lib/systemd/",
    "var/log/",
];

/// Tells the whole story; with `exit` unset it then leaves the server running.
pub(crate) fn run(options: &FirstLight) -> Result<()> {
    let places = Places::new("demo")?;
    say_what_is_real();
    let mut demo = Demo::start(places)?;
    demo.import_content()?;
    demo.import_assets()?;
    demo.create_prestage()?;
    let laptops = demo.stage_at_factory()?;
    chapter(
        7,
        "Deploy at school: its own disk and a network, nothing else",
    );
    let first = demo.deploy(&laptops[0])?;
    demo.look_around()?;
    demo.update_application()?;
    let second = demo.deploy(&laptops[1])?;
    demo.check_network(&first, &second)?;
    let summary = demo.summary(vec![first, second])?;
    let shown = documents::check(&demo.world.places.root, &demo.world.commands())?;
    chapter(9, "Summary");
    say(&format!(
        "all {shown} commands shown in the documents were run"
    ));
    summary.show();
    let file = options
        .summary
        .clone()
        .unwrap_or_else(|| demo.world.places.work.join("summary.json"));
    summary.write(&file)?;
    say(&format!(
        "written to {file}; logs, pictures of the screens and disks are in {}",
        demo.world.places.work
    ));
    ensure!(summary.verified, "not everything was as it must be");
    if !options.exit {
        say(&format!(
            "The overview: {}   user admin, password {}",
            demo.world.url,
            demo.world.password()
        ));
        say("The server goes on running. Ctrl-C ends it.");
        demo.world.stay()?;
    }
    Ok(())
}

fn say_what_is_real() {
    say(
        "Everything below is real but the hardware: QEMU with UEFI firmware, emulated, so slower than a laptop.",
    );
}

/// The state of the story so far.
struct Demo {
    world: World,
    preparation: Vec<Phase>,
    sizes: Sizes,
    prestage: Option<PrestageVersion>,
    stick: Utf8PathBuf,
    stage_seconds: Vec<(String, f64, Vec<Phase>)>,
    compared_bytes: u64,
    /// The chunks that the bundle carries, so what a staged laptop has.
    staged_chunks: BTreeSet<Digest>,
}

impl Demo {
    fn start(places: Places) -> Result<Self> {
        chapter(1, "The programs");
        let size = |path: &Utf8Path| Ok::<u64, anyhow::Error>(std::fs::metadata(path)?.len());
        let sizes = Sizes {
            agent: size(&places.agent())?,
            forestage: size(&places.forestage())?,
            ..Sizes::default()
        };
        say(&format!(
            "forestage {}, forestage-agent (static) {}",
            bytes(sizes.forestage),
            bytes(sizes.agent)
        ));
        chapter(2, "The server: embedded database, TLS from its own CA");
        let world = World::start(places)?;
        say(&format!(
            "URL: {}   the admin's one-time login: {}",
            world.url, world.one_time_login
        ));
        world.run(&["status"])?;
        world.run(&["trust", "show"])?;
        let stick = world.places.work.join("stick.img");
        Ok(Self {
            world,
            preparation: Vec::new(),
            sizes,
            prestage: None,
            stick,
            stage_seconds: Vec::new(),
            compared_bytes: 0,
            staged_chunks: BTreeSet::new(),
        })
    }

    fn import_content(&mut self) -> Result<()> {
        chapter(
            3,
            "Content: an OS image, a boot image, applications and drivers",
        );
        self.timed("import the OS image", |world| {
            import_example(world, "debian-12-laptop")
        })?;
        let folder = self.timed("build and import the boot image", |world| {
            world.boot_image(None)
        })?;
        self.sizes.boot_image = std::fs::metadata(folder.join("deploy.efi"))?.len();
        for name in [
            UPDATED,
            "vim-editor",
            "norwegian-dictionary",
            "acme-book-14-firmware",
            "fjord-note-15-firmware",
        ] {
            self.timed(&format!("import {name}"), |world| {
                import_example(world, name)
            })?;
        }
        self.world.run(&["package", "list"])
    }

    /// What an admin looks at when a laptop is done.
    fn look_around(&self) -> Result<()> {
        self.world.run(&["run", "list"])?;
        self.world.run(&["collection", "show", "first-years"])
    }

    fn import_assets(&mut self) -> Result<()> {
        chapter(
            4,
            "The sequence, the collection, its required deployment, the asset file",
        );
        let sequence = self.world.places.example("sequences/pupil-laptop.yaml");
        let stage = self.world.places.example("sequences/factory-stage.yaml");
        let assets = self.world.places.example("assets/laptops.csv");
        let world = &self.world;
        let schema: serde_json::Value = world.json(&["sequence", "schema"])?;
        ensure!(
            schema["$defs"]["step"].is_object(),
            "the schema knows no steps"
        );
        world.run(&["sequence", "lint", sequence.as_str()])?;
        world.run(&["sequence", "put", sequence.as_str()])?;
        world.run(&["sequence", "lint", stage.as_str()])?;
        world.run(&["sequence", "put", stage.as_str()])?;
        world.run(&[
            "collection",
            "create",
            "first-years",
            "--title",
            "Førsteklassinger 2026",
        ])?;
        world.run(&[
            "deployment",
            "create",
            "autumn-2026",
            "--collection",
            "first-years",
            "--sequence",
            "pupil-laptop",
            "--expected",
            "6m",
            "--cap",
            "100",
            "--confirm",
            "autumn-2026 100",
        ])?;
        world.run(&[
            "asset",
            "import",
            assets.as_str(),
            "--collection",
            "first-years",
            "--dry-run",
        ])?;
        world.run(&[
            "asset",
            "import",
            assets.as_str(),
            "--collection",
            "first-years",
        ])?;
        world.run(&["device", "list"])?;
        world.run(&["variable", "set", "--site", "KON", "locale=nn_NO.UTF-8"])?;
        world.run(&["variable", "list", "--device", "AB14-000102"])?;
        world.run(&["sequence", "plan", "--asset", "AB14-000101"])?;
        world.run(&["sequence", "plan", "--collection", "first-years"])
    }

    fn create_prestage(&mut self) -> Result<()> {
        chapter(
            5,
            "Create the prestage: one model's content, signed, on a USB image",
        );
        let world = &self.world;
        world.run(&[
            "prestage",
            "define",
            "acme-book-14",
            "--sequence",
            "pupil-laptop",
            "--stage",
            "factory-stage",
            "--vendor",
            "Acme",
            "--product",
            "Book 14",
        ])?;
        world.run(&["prestage", "plan", "acme-book-14"])?;
        self.timed("build the prestage bundle", |world| {
            world.run(&["prestage", "build", "acme-book-14"])
        })?;
        let stick = self.stick.clone();
        self.timed("build the boot medium", |world| {
            world.run(&[
                "medium",
                "build",
                "--prestage",
                "acme-book-14@1",
                "--output",
                stick.as_str(),
            ])
        })?;
        let versions: Vec<PrestageVersion> = self.world.json(&["prestage", "list"])?;
        let version = versions
            .into_iter()
            .next()
            .context("there is no prestage version")?;
        let omitted: Vec<&str> = version
            .plan
            .omitted
            .iter()
            .map(|item| item.name.as_str())
            .collect();
        ensure!(
            omitted.contains(&"fjord-note-15-firmware"),
            "the other model's driver must be left out"
        );
        ensure!(
            version
                .plan
                .kept
                .iter()
                .any(|item| item.name.as_str() == "acme-book-14-firmware"),
            "the model's own driver must be in"
        );
        self.sizes.bundle = version.bundle_bytes;
        self.sizes.content = version.content_bytes;
        self.prestage = Some(version);
        Ok(())
    }

    /// Two laptops side by side, as the vendor does it.
    fn stage_at_factory(&mut self) -> Result<Vec<Laptop>> {
        chapter(6, "Stage at the factory: no network card, no key press");
        let fleet = self.world.places.work.join("laptops");
        let laptops = [
            Laptop::new(&fleet, "AB14-000101", DISK_BYTES)?,
            Laptop::new(&fleet, "AB14-000102", DISK_BYTES)?,
        ];
        let sticks = [
            laptops[0].stick(&self.stick)?,
            laptops[1].stick(&self.stick)?,
        ];
        let staged: Vec<Result<(f64, Vec<Phase>)>> = std::thread::scope(|scope| {
            let handles: Vec<_> = laptops
                .iter()
                .zip(&sticks)
                .map(|(laptop, stick)| scope.spawn(|| stage(laptop, stick)))
                .collect();
            handles
                .into_iter()
                .map(|handle| handle.join().expect("staging does not panic"))
                .collect()
        });
        let bundle_file = self
            .world
            .places
            .work
            .join("data/bundles/acme-book-14@1.bundle");
        let bundle = check::open_bundle(&bundle_file, &self.world.trust()?)?;
        for manifest in check::decode_manifests(&bundle)?.values() {
            self.staged_chunks
                .extend(manifest.chunks().iter().map(|chunk| chunk.digest));
        }
        for ((laptop, stick), outcome) in laptops.iter().zip(&sticks).zip(staged) {
            let serial = &laptop.identity.serial;
            let (seconds, phases) = outcome.with_context(|| format!("staging {serial}"))?;
            say(&format!(
                "{serial}: staged in {seconds:.0} s; its screen: {}/factory-done.png",
                laptop.folder()
            ));
            self.compared_bytes += check::staged_disk(&laptop.disk, &bundle)?;
            self.stage_seconds.push((serial.clone(), seconds, phases));
            self.world.run(&["receipt", "import", stick.as_str()])?;
        }
        say(&format!(
            "compared with the manifests, byte for byte: {}, equal",
            bytes(self.compared_bytes)
        ));
        self.world.run(&["receipt", "list"])?;
        Ok(laptops.to_vec())
    }

    fn deploy(&mut self, laptop: &Laptop) -> Result<LaptopFigures> {
        let serial = laptop.identity.serial.clone();
        let foretold = self.foretold(&serial)?;
        let watch = self.world.watch(&serial)?;
        let mut vm = Vm::start(&laptop.at_school("school"))?;
        vm.wait_for_milestone("checked-in")?;
        vm.wait_for("the applications", |line| {
            line.is_event("step-started", Some("apps/java"))
        })?;
        laptop.picture(&vm, "school-deploying")?;
        vm.wait_for_milestone("resumed-in-os")?;
        vm.wait_for_milestone("reported")?;
        let deploy_seconds = vm.seconds();
        vm.wait_for_power_off()?;
        let phases = phases(&vm);
        watch.finish()?;
        self.world.run(&["run", "show", &serial])?;
        let device = self.world.device(&serial)?;
        let run = self.world.run_of(&serial)?;
        self.compare_with_plan(&foretold, &run)?;
        ensure!(
            device.state == DeviceState::Completed,
            "{serial} is {} and not completed",
            device.state
        );
        ensure!(
            device.collections.is_empty(),
            "{serial} is still in {:?}",
            device.collections
        );
        say(&format!(
            "{serial} is ready, and has left the collection by itself"
        ));
        let name = device.name.clone().unwrap_or_default();
        self.check_deployed(laptop, &name)?;
        self.boots_its_own_os(laptop, &name)?;
        let (stage_seconds, stage_phases) = self
            .stage_seconds
            .iter()
            .find(|(staged, ..)| *staged == serial)
            .map(|(_, seconds, phases)| (*seconds, phases.clone()))
            .context("was never staged")?;
        let card = captured(&laptop.capture("school"))?;
        Ok(figures(
            &run,
            name,
            stage_seconds,
            deploy_seconds,
            card,
            [stage_phases, phases].concat(),
        ))
    }

    /// The plan of the run, as it is told before the laptop is switched on.
    fn foretold(&self, serial: &str) -> Result<DevicePlan> {
        self.world.json(&["sequence", "plan", "--asset", serial])
    }

    /// The run must have gone as it was planned, step by step.
    fn compare_with_plan(&self, foretold: &DevicePlan, run: &RunRow) -> Result<()> {
        let detail = foretold.detail.as_ref().context("the plan has steps")?;
        let ran = self.world.run_detail(run)?;
        ensure!(
            detail.run.steps.len() == ran.steps.len(),
            "the plan has other steps than the run"
        );
        let mut in_words = 0;
        for (planned, step) in detail.run.steps.iter().zip(&ran.steps) {
            let as_planned = match planned.decision {
                Decision::Runs => step.state == "done",
                Decision::Skipped => step.state == "skipped",
                Decision::Undecided => true,
                Decision::Fails => step.state == "failed",
            };
            ensure!(
                planned.path == step.path && as_planned,
                "step {} was planned as {}, and is {}",
                step.path,
                planned.decision,
                step.state
            );
            if let (Decision::Runs, Some(text)) = (planned.decision, &planned.text) {
                ensure!(
                    *text == step.plan,
                    "step {} was planned to {text:?}, and recorded {:?}",
                    step.path,
                    step.plan
                );
                in_words += 1;
            }
        }
        // A plan counts what would be sent; requests and their headers come on top.
        ensure!(
            run.content.network_packed <= foretold.fetch_bytes + NETWORK_BYTES_MAX,
            "{} were fetched, the plan said {} at most",
            bytes(run.content.network_packed),
            bytes(foretold.fetch_bytes)
        );
        say(&format!(
            "as planned: all {} steps ended as foretold, {in_words} of them word for word; planned to fetch {}, fetched {}",
            ran.steps.len(),
            bytes(foretold.fetch_bytes),
            bytes(run.content.network_packed)
        ));
        Ok(())
    }

    fn check_deployed(&self, laptop: &Laptop, name: &str) -> Result<()> {
        let host_name = check::os_file(&laptop.disk, "/etc/hostname")?;
        ensure!(
            host_name.trim() == name,
            "the OS calls itself {host_name:?}, the server {name:?}"
        );
        let library = Library::open(&self.world.places.work.join("data/library"))?;
        let packages = self.current_packages()?;
        let manifest_of =
            |package: &Package| -> Result<Manifest> { Ok(library.manifest(&package.manifest)?) };
        let os = packages
            .iter()
            .find(|package| package.kind == PackageKind::OsImage)
            .context("no OS image")?;
        let image = laptop.folder().join("os-as-published.img");
        let manifest = manifest_of(os)?;
        let file = std::fs::File::create_new(&image)?;
        file.set_len(manifest.image_bytes().context("an OS image is an image")?)?;
        content::converge_image(&manifest, &file, &[&library], &NoMeter)?;
        let run = self
            .world
            .run_detail(&self.world.run_of(&laptop.identity.serial)?)?;
        let mut installed = Vec::new();
        for package in packages
            .iter()
            .filter(|package| package.kind == PackageKind::Application)
        {
            if run
                .steps
                .iter()
                .any(|step| step.state == "done" && step.plan.contains(package.name.as_str()))
            {
                installed.push((package.clone(), manifest_of(package)?));
            }
        }
        ensure!(!installed.is_empty(), "no application was installed");
        let compared =
            check::deployed_disk(&laptop.disk, &image, &installed, &library, MAY_DIFFER)?;
        std::fs::remove_file(image)?;
        let names: Vec<&str> = installed
            .iter()
            .map(|(package, _)| package.name.as_str())
            .collect();
        say(&format!(
            "compared {compared} files of the OS image and of {} with the disk: equal",
            names.join(", ")
        ));
        Ok(())
    }

    fn boots_its_own_os(&self, laptop: &Laptop, name: &str) -> Result<()> {
        let mut vm = Vm::start(&laptop.at_school("own-os"))?;
        // The OS asks for an address under its own name; our boot image never does.
        vm.wait_for_frame(&laptop.capture("own-os"), name)?;
        laptop.picture(&vm, "own-os")?;
        let agent_lines = vm
            .lines()
            .iter()
            .filter(|(_, line)| AgentLine::parse(line).is_some())
            .count();
        ensure!(
            agent_lines == 0,
            "{name} started our boot image again instead of its own OS"
        );
        vm.cut_power();
        say(&format!(
            "switched on once more, it starts its own OS at once, as {name}"
        ));
        Ok(())
    }

    fn update_application(&mut self) -> Result<()> {
        chapter(
            8,
            "Java is updated on the server, after staging; then the second laptop",
        );
        self.timed("import the update", |world| {
            import_example(world, "openjdk-17-jre-update")
        })?;
        self.world.run(&["prestage", "drift", "acme-book-14"])?;
        self.world
            .run(&["sequence", "plan", "--asset", "AB14-000102"])
    }

    /// What the second laptop had to fetch, and that neither moved more than it must.
    fn check_network(&self, first: &LaptopFigures, second: &LaptopFigures) -> Result<()> {
        ensure!(
            first.network_bytes < NETWORK_BYTES_MAX,
            "the first laptop moved {} over the network; {} is the most it may",
            bytes(first.network_bytes),
            bytes(NETWORK_BYTES_MAX)
        );
        let library = Library::open(&self.world.places.work.join("data/library"))?;
        let packages = self.current_packages()?;
        let updated: PackageName = UPDATED.parse()?;
        let package = packages
            .iter()
            .find(|package| package.name == updated)
            .context("the update is published")?;
        let manifest = library.manifest(&package.manifest)?;
        let mut changed = package.manifest_bytes;
        let mut seen = BTreeSet::new();
        for chunk in manifest.chunks() {
            if !self.staged_chunks.contains(&chunk.digest) && seen.insert(chunk.digest) {
                changed += library
                    .frame(&chunk.digest)?
                    .context("published chunks are there")?
                    .frame_bytes();
            }
        }
        say(&format!(
            "the update: {} of content, of which {} changed (compressed); the second laptop moved {} in all",
            bytes(package.content_bytes),
            bytes(changed),
            bytes(second.network_bytes)
        ));
        ensure!(
            second.fetched_bytes > 0,
            "the second laptop fetched nothing, so it cannot have the update"
        );
        // Headers of Ethernet, IP and TCP come on top of what is sent, in proportion to it: they are shown, not bounded.
        for (place, moved) in [
            ("the server", second.server_bytes),
            ("its network card", second.network_payload_bytes),
        ] {
            ensure!(
                moved <= changed + NETWORK_BYTES_MAX,
                "the second laptop moved {} at {place}, more than the changed chunks and 1 MiB",
                bytes(moved)
            );
        }
        Ok(())
    }

    fn current_packages(&self) -> Result<Vec<Package>> {
        let rows: Vec<PackageRow> = self.world.json(&["package", "list"])?;
        Ok(rows
            .into_iter()
            .filter(|row| row.current)
            .map(|row| row.package)
            .collect())
    }

    fn summary(&self, laptops: Vec<LaptopFigures>) -> Result<Summary> {
        let ready = laptops.iter().all(|laptop| laptop.state == "completed");
        let key_presses = pressed_keys(&self.world.places.work.join("laptops"))?;
        Ok(Summary {
            verified: ready && self.compared_bytes > 0 && key_presses == 0,
            key_presses,
            laptops,
            sizes: self.sizes.clone(),
            preparation: self.preparation.clone(),
        })
    }

    fn timed<T>(&mut self, name: &str, work: impl FnOnce(&World) -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = work(&self.world)?;
        self.preparation.push(Phase {
            name: name.to_owned(),
            seconds: start.elapsed().as_secs_f64(),
        });
        Ok(done)
    }
}

fn import_example(world: &World, name: &str) -> Result<()> {
    let definition = world.places.example(&format!("packages/{name}.yaml"));
    world.run(&[
        "package",
        "import",
        definition.as_str(),
        "--cache",
        world.places.cache.as_str(),
    ])
}

fn stage(laptop: &Laptop, stick: &Utf8Path) -> Result<(f64, Vec<Phase>)> {
    let mut vm = Vm::start(&laptop.at_factory(stick))?;
    vm.wait_for("staging", |line| {
        line.is_event("step-started", Some("content")) || failed(line)
    })?;
    laptop.picture(&vm, "factory-staging")?;
    vm.wait_for_milestone("stage-done")?;
    laptop.picture(&vm, "factory-done")?;
    vm.wait_for_power_off()?;
    Ok((vm.seconds(), phases(&vm)))
}

fn failed(line: &AgentLine) -> bool {
    line.is_milestone("stage-failed")
}

/// The time from one mark of the agent to the next, as the machine lived through it.
fn phases(vm: &Vm) -> Vec<Phase> {
    let mut phases = Vec::new();
    let mut last = 0.0;
    for (at, line) in vm.lines() {
        let Some(line) = AgentLine::parse(line) else {
            continue;
        };
        let name = match line.kind.as_str() {
            "milestone" => line.value["at"].as_str().unwrap_or_default().to_owned(),
            "event" if line.value["body"]["kind"] == "step-done" => {
                format!(
                    "step {}",
                    line.value["body"]["path"].as_str().unwrap_or_default()
                )
            }
            _ => continue,
        };
        phases.push(Phase {
            name,
            seconds: at - last,
        });
        last = *at;
    }
    phases
}

fn figures(
    run: &RunRow,
    name: String,
    stage_seconds: f64,
    deploy_seconds: f64,
    card: Captured,
    phases: Vec<Phase>,
) -> LaptopFigures {
    LaptopFigures {
        serial: run.serial.clone(),
        name,
        stage_seconds,
        deploy_seconds,
        network_bytes: card.bytes,
        network_payload_bytes: card.payload_bytes,
        server_bytes: run.server_bytes,
        interface_bytes: run.interface_bytes,
        local_bytes: run.content.unchanged + run.content.local,
        fetched_bytes: run.content.network,
        fetched_packed_bytes: run.content.network_packed,
        state: run.state.to_string(),
        phases,
    }
}
