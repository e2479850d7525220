//! What becomes of a county: machines are switched on and unplugged, people change their minds, and time goes on.

use std::sync::Arc;

use agent::deploy::{self, Site};
use agent::{connection, resume};
use anyhow::{Context, Result};
use camino::Utf8Path;
use client::Client;
use sequence::ports::BootTarget;
use serde_json::{Value, json};
use wire::admin_api::{DeviceState, MemberChange, RerunRequest, RunDetail, RunRow};
use wire::boot_config::Trust;
use wire::deployments::{CapRequest, DeviceList, ResumeRequest, StopRequest};
use wire::event::Environment;
use wire::names::{DeploymentName, DeviceId};
use wire::package::PackageKind;
use wire::quarantine::{Decide, Decision, QuarantineRow};

use crate::host::{PoweredOn, Shared};
use crate::office::{URL, public_half};
use crate::time::{End, go_on_to, now_ms};
use crate::world::{CLAIMANTS_MAC, DAY, Event, HOUR, Laptop, MINUTE, SECOND, World, staged};

/// How long faults strike.
const FAULTS_LAST: i64 = 40 * MINUTE;
/// A cap that no county reaches.
const CAP_OF_NO_MATTER: u32 = 100;
/// How often somebody looks after what stands still, and how often before it counts as stuck.
const LOOKED_AFTER_EVERY: i64 = 4 * MINUTE;
const LOOKED_AFTER_MAX: usize = 15;

/// The machines of one deployment, until all are done.
pub(crate) fn deployment(world: &Arc<World>, name: &str, sequence: &str) -> Result<()> {
    let devices = world.change(|world| {
        world.are_faults_over = false;
        world.is_restored = false;
        world.deployments += 1;
        let laptops = world.own().iter();
        laptops
            .map(|laptop| laptop.device.parse())
            .collect::<Result<Vec<DeviceId>, _>>()
    });
    let devices = devices.context("a device id")?;
    let machines = devices.len();
    let slots = u32::try_from(world.between(0, 2))?;
    let cap = match world.between(0, 1) {
        0 => CAP_OF_NO_MATTER,
        _ => u32::try_from(world.between(1, i64::try_from(machines)?))?,
    };
    world.tell(
        "admin",
        &format!("deployment {name}, {slots} at a time (0: all), {cap} at most"),
    );
    world.office.deploy(name, sequence, (slots, cap))?;
    put_in(world, name, &devices)?;
    sign(world, &name.parse()?);
    for machine in 0..machines {
        let by_hand = sequence == "again";
        let at = world.between(0, 20 * MINUTE);
        world.after(at, Event::SwitchOn { machine, by_hand });
        if world.between(0, 2) == 0 {
            let out = world.between(0, FAULTS_LAST);
            world.after(
                out,
                Event::Cable {
                    machine,
                    is_in: false,
                },
            );
            let back = out + world.between(1, 20 * MINUTE);
            world.after(
                back,
                Event::Cable {
                    machine,
                    is_in: true,
                },
            );
        }
    }
    for _ in 0..world.between(0, 4) {
        let at = world.between(0, FAULTS_LAST);
        world.after(at, Event::Admin);
    }
    if world.between(0, 3) == 0 {
        let at = world.between(0, FAULTS_LAST);
        world.after(at, Event::NewJava);
    }
    let is_to_be_restored = world.between(0, 3) == 0;
    if is_to_be_restored {
        let backed_up = world.between(0, FAULTS_LAST / 3);
        world.after(backed_up, Event::BackUp);
        let restored = backed_up + world.between(1, FAULTS_LAST / 3);
        world.after(restored, Event::Restore);
    }
    let (deployments, all) = world.change(|world| (world.deployments, world.laptops.len()));
    // A server whose backup is older than its first machine takes whoever comes first: that is no second claimant.
    if deployments > 1 || !is_to_be_restored {
        for machine in machines..all {
            let at = world.between(0, FAULTS_LAST);
            world.after(at, Event::Claimant { machine });
        }
    }
    go_on(world, now_ms() + FAULTS_LAST)?;
    world.change(|world| world.are_faults_over = true);
    world.tell("people", "no faults from here on");
    let name: DeploymentName = name.parse()?;
    for _ in 0..LOOKED_AFTER_MAX {
        look_after(world, &name)?;
        go_on(world, now_ms() + LOOKED_AFTER_EVERY)?;
        if unfinished(world, &name)?.is_empty() {
            return send_claimants_away(world);
        }
    }
    for what in unfinished(world, &name)? {
        world.wrong(what);
    }
    Ok(())
}

/// Puts devices into the collection of a deployment: most at once, some when others have begun.
fn put_in(world: &World, name: &str, devices: &[DeviceId]) -> Result<()> {
    let mut change = MemberChange::default();
    for (machine, device) in devices.iter().enumerate() {
        if machine == 0 || world.between(0, 2) > 0 {
            change.add.push(*device);
        } else {
            let at = world.between(0, FAULTS_LAST);
            let (device, collection) = (*device, name.parse()?);
            world.after(at, Event::PutIn { device, collection });
        }
    }
    let admin = world.office.admin();
    admin.change_members(&name.parse()?, &change)?;
    Ok(())
}

/// A second claimant that asked is shown, and then people take it away.
fn send_claimants_away(world: &Arc<World>) -> Result<()> {
    let shown = world.office.admin().quarantine()?;
    let is_shown = shown.iter().any(is_claimant);
    for machine in world.change(|world| world.own().len()..world.laptops.len()) {
        world.threads.kill(machine);
        let (is_put_aside, name) = world.change(|world| {
            world.events.retain(|_, event| {
                !matches!(event, Event::SwitchOn { machine: one, .. } | Event::Claimant { machine: one } if *one == machine)
            });
            let laptop = &mut world.laptops[machine];
            laptop.is_on = false;
            laptop.start += 1;
            (laptop.is_put_aside, laptop.name())
        });
        if is_put_aside && !is_shown {
            world.wrong(format!("{name} was refused, and nobody is shown it"));
        }
    }
    Ok(())
}

/// Whether this machine in quarantine is a second claimant: people look at the machine itself.
fn is_claimant(row: &QuarantineRow) -> bool {
    row.macs.iter().any(|mac| mac == CLAIMANTS_MAC)
}

/// Lets time go on until then: from one thing that is due to the next.
pub(crate) fn go_on(world: &Arc<World>, until_ms: i64) -> Result<()> {
    loop {
        let event = world.change(|world| world.events.keys().next().copied());
        let thread = world.threads.next();
        let event_first = match (event, thread) {
            (None, None) => break,
            (Some((at, _)), thread) if thread.is_none_or(|(due, _)| at < due) => Some(at),
            _ => None,
        };
        let due = event_first
            .or(thread.map(|(due, _)| due))
            .unwrap_or(until_ms);
        if due > until_ms {
            break;
        }
        go_on_to(due);
        if event_first.is_some() {
            let event = world.change(|world| world.events.pop_first());
            if let Some((_, event)) = event {
                happens(world, event)?;
            }
        } else if let Some((_, id)) = thread
            && let Some((machine, end)) = world.threads.turn(id)
        {
            ended(world, machine, end);
        }
        if world.change(|world| !world.wrongs.is_empty()) {
            break;
        }
    }
    go_on_to(until_ms);
    Ok(())
}

fn happens(world: &Arc<World>, event: Event) -> Result<()> {
    let is_same = |machine: usize, start: u64| {
        world.change(|world| {
            let laptop = &world.laptops[machine];
            laptop.is_on && laptop.start == start
        })
    };
    match event {
        Event::SwitchOn { machine, by_hand } => {
            if world.change(|world| !world.laptops[machine].is_on) {
                switch_on(world, machine, by_hand)?;
            }
        }
        Event::ComesUp { machine, start } => {
            let is_waited_for = world.change(|world| {
                let laptop = &world.laptops[machine];
                !laptop.is_on && laptop.start == start
            });
            if is_waited_for {
                switch_on(world, machine, false)?;
            }
        }
        Event::Unplug { machine, start } => {
            if is_same(machine, start) && world.change(|world| !world.are_faults_over) {
                tell_of(world, machine, "somebody pulls the plug");
                cut(world, machine);
            }
        }
        Event::Service { machine, start } => {
            if is_same(machine, start) {
                serve(world, machine)?;
            }
        }
        Event::Cable { machine, is_in } => {
            tell_of(world, machine, if is_in { "cable in" } else { "cable out" });
            world.change(|world| {
                world.laptops[machine].has_network = is_in || world.are_faults_over
            });
            world.threads.poke(machine);
        }
        Event::ServerUp => server_up(world)?,
        Event::BackUp => {
            server_up(world)?;
            world.tell("server", "backed up");
            world.office.back_up()?;
        }
        Event::Restore => restore(world)?,
        Event::Late { machine, request } => {
            world.tell(
                "line",
                &format!("{} arrives once more, late", request.uri().path()),
            );
            // Nobody waits for the answer.
            let _ = world.answer(machine, *request);
        }
        Event::Claimant { machine } => {
            let is_second = world.change(|world| {
                let serial = &world.laptops[machine].serial;
                let is_known = |laptop: &Laptop| laptop.was_let_in && laptop.serial == *serial;
                world.own().iter().any(is_known)
            });
            if is_second {
                switch_on(world, machine, false)?;
            } else {
                world.after(MINUTE, Event::Claimant { machine });
            }
        }
        Event::PutIn { device, collection } => {
            if world.office.is_up() {
                world.tell("admin", &format!("puts {device} into {collection}"));
                let (add, remove) = (vec![device], Vec::new());
                let change = MemberChange { add, remove };
                world.office.admin().change_members(&collection, &change)?;
            }
        }
        Event::Admin => admin(world)?,
        Event::NewJava => {
            if world.office.is_up() {
                let version = (now_ms() / SECOND).to_string();
                world.tell("admin", &format!("publishes java {version}"));
                world
                    .office
                    .publish("java", &version, PackageKind::Application)?;
            }
        }
    }
    Ok(())
}

fn server_up(world: &Arc<World>) -> Result<()> {
    if !world.office.is_up() {
        world.office.start()?;
        world.tell("server", "up");
        world.has_what_it_said()?;
    }
    Ok(())
}

/// The server is one from its last backup. What a machine had reported by then isn't told again.
fn restore(world: &Arc<World>) -> Result<()> {
    if world.office.restore()? {
        world.tell("server", "lost, and restored from its backup");
        world.believe_the_database()?;
        world.change(|world| {
            world.was_restored = true;
            world.is_restored = true;
            for laptop in &mut world.laptops {
                laptop.is_put_aside = false;
                let mut past: Vec<_> = laptop.followed().cloned().collect();
                if is_in_use(&laptop.state) {
                    past.extend(laptop.done().cloned());
                }
                laptop.past.extend(past);
            }
        });
    }
    Ok(())
}

fn tell_of(world: &World, machine: usize, what: &str) {
    world.change(|world| {
        let name = world.laptops[machine].name();
        world.tell(&name, what);
    });
}

/// Whether the OS is there and nothing of ours runs in it any more.
pub(crate) fn is_in_use(state: &testkit::fake_machine::FakeState) -> bool {
    state.default_boot == Some(BootTarget::Os) && state.deployed && !state.agent
}

fn switch_on(world: &Arc<World>, machine: usize, by_hand: bool) -> Result<()> {
    let (environment, has_agent, start, is_over) = world.change(|world| {
        // Batteries run empty, and some clocks were never set.
        let off = [0, 0, -20 * 365 * DAY, 400 * DAY, -HOUR];
        let off = *world.chance.pick(&off);
        let laptop = &mut world.laptops[machine];
        laptop.is_on = true;
        laptop.start += 1;
        laptop.started_ms = now_ms();
        laptop.clock_off_ms = off;
        let environment = match laptop.state.default_boot {
            Some(BootTarget::Os) if !by_hand => Environment::Os,
            _ => Environment::BootImage,
        };
        laptop.environment = environment;
        (
            environment,
            laptop.state.agent,
            laptop.start,
            world.are_faults_over,
        )
    });
    let how = if by_hand { ", by hand" } else { "" };
    tell_of(world, machine, &format!("starts the {environment:?}{how}"));
    if environment == Environment::Os && !has_agent {
        // In use: the power comes and goes, and nothing of ours is there to see it.
        return Ok(());
    }
    if !is_over {
        let plugged = world.between(30 * SECOND, 6 * MINUTE);
        world.after(plugged, Event::Unplug { machine, start });
    }
    match environment {
        Environment::Os => serve(world, machine),
        Environment::BootImage => {
            let site = site(world, machine, environment);
            let work = Box::new(move || deploy::run(&site));
            world.threads.spawn(machine, work);
            Ok(())
        }
    }
}

fn site(world: &Arc<World>, machine: usize, environment: Environment) -> Site {
    let host = Shared(PoweredOn::new(world, machine, environment));
    let trust = Trust {
        format: 1,
        server_urls: vec![URL.to_owned()],
        ca_pem: String::new(),
        bundle_keys: Vec::new(),
        wipe_keys: world.wipe_key.iter().map(public_half).collect(),
    };
    Site::in_the_dark(Arc::new(host), trust)
}

/// The installed OS starts the agent's service, and again if it fails.
fn serve(world: &Arc<World>, machine: usize) -> Result<()> {
    let site = site(world, machine, Environment::Os);
    let start = world.change(|world| world.laptops[machine].start);
    let same_world = Arc::clone(world);
    let work = Box::new(move || {
        if let Err(error) = resume::go_on(&site) {
            tell_of(
                &same_world,
                machine,
                &format!("the agent failed: {error:#}"),
            );
            same_world.after(10 * SECOND, Event::Service { machine, start });
        }
    });
    world.threads.spawn(machine, work);
    Ok(())
}

/// A thread of a machine has ended.
fn ended(world: &Arc<World>, machine: usize, end: End) {
    match end {
        End::Done => {}
        End::Cut => cut(world, machine),
        End::Panic(text) => world.wrong(format!("the agent panicked: {text}")),
        End::Restart | End::Off => {
            world.threads.kill(machine);
            tell_of(world, machine, &format!("{end:?}"));
            let start = world.change(|world| {
                let laptop = &mut world.laptops[machine];
                laptop.disk.sync_all();
                laptop.is_on = false;
                laptop.start
            });
            let later = world.between(5, 30) * SECOND;
            match end {
                End::Restart => world.after(later, Event::ComesUp { machine, start }),
                _ => world.after(
                    later,
                    Event::SwitchOn {
                        machine,
                        by_hand: false,
                    },
                ),
            }
        }
    }
}

/// The power of a machine is gone; somebody switches it on again.
fn cut(world: &Arc<World>, machine: usize) {
    world.threads.kill(machine);
    let (lost, is_used) = world.change(|world| {
        world.figures.cuts += 1;
        let laptop = &mut world.laptops[machine];
        laptop.is_on = false;
        let lost = laptop.disk.lose_power(&mut world.chance);
        (lost, is_in_use(&laptop.state))
    });
    if !lost.is_empty() {
        tell_of(world, machine, &format!("lost what wasn't synced: {lost}"));
    }
    if !is_used {
        let later = world.between(SECOND, 10 * MINUTE);
        let by_hand = false;
        world.after(later, Event::SwitchOn { machine, by_hand });
    }
}

/// The latest run of a machine, if the server knows one.
fn latest(admin: &Client, device: &str) -> Result<Option<RunRow>> {
    let mut runs = admin.runs()?;
    runs.retain(|run| run.device.to_string() == device);
    Ok(runs.into_iter().max_by_key(|run| run.started_at_ms))
}

/// An administrator does something that may be wise.
fn admin(world: &Arc<World>) -> Result<()> {
    if !world.office.is_up() {
        return Ok(());
    }
    let admin = world.office.admin();
    let (device, is_claimed, action) = world.change(|world| {
        let machines = world.own().len();
        let machine = world.chance.place(machines);
        let laptop = &world.laptops[machine];
        let claimants = &world.laptops[machines..];
        let is_claimed = claimants.iter().any(|one| one.serial == laptop.serial);
        (laptop.device.clone(), is_claimed, world.chance.below(9))
    });
    let run = latest(&admin, &device)?;
    let deployments = admin.deployments()?;
    let Some(deployment) = deployments.iter().max_by_key(|deployment| {
        usize::from(
            run.as_ref()
                .is_some_and(|run| run.deployment == deployment.name),
        )
    }) else {
        return Ok(());
    };
    let name = &deployment.name;
    let devices = DeviceList {
        devices: vec![device.parse().context("a device id")?],
        confirm: format!("{name} 1"),
    };
    let post = |path: String, body: Value| -> Result<(), client::ClientError> {
        admin.send::<_, Value>("POST", &path, &body).map(drop)
    };
    let (what, done) = match (action, run) {
        (0, Some(run)) => (
            "stops a run",
            post(format!("/api/v1/runs/{}/stop", run.run), Value::Null),
        ),
        (1, Some(run)) => (
            "retries a run",
            post(format!("/api/v1/runs/{}/retry", run.run), Value::Null),
        ),
        (2, Some(run)) => {
            let detail: RunDetail = admin.run(run.run)?;
            let confirm = detail.confirm_rerun.unwrap_or_default();
            let body = json!(RerunRequest { confirm });
            let done = post(format!("/api/v1/runs/{}/rerun", run.run), body);
            world.believe_the_database()?;
            ("has a run begin anew", done)
        }
        (3, _) => ("cancels", admin.cancel_deployment(name, &devices).map(drop)),
        (4, _) => (
            "cancels no more",
            admin.uncancel_deployment(name, &devices).map(drop),
        ),
        (5, _) => {
            let let_running_finish = world.between(0, 1) == 0;
            let request = StopRequest { let_running_finish };
            (
                "stops the deployment",
                admin.stop_deployment(name, &request).map(drop),
            )
        }
        // Whoever resets it where two claim to be the device lets in whoever comes first.
        (6, _) if !is_claimed => (
            "resets a key",
            post(format!("/api/v1/devices/{device}/reset-key"), Value::Null),
        ),
        (7, _) => {
            let change = MemberChange {
                add: Vec::new(),
                remove: devices.devices.clone(),
            };
            (
                "takes one out",
                admin
                    .change_members(&deployment.collection, &change)
                    .map(drop),
            )
        }
        _ => ("resumes the deployment", resume_deployment(&admin, name)),
    };
    let came = done.map_or_else(|error| format!(": {error}"), |()| String::new());
    world.tell("admin", &format!("{what} ({name}, {device}){came}"));
    Ok(())
}

fn resume_deployment(admin: &Client, name: &DeploymentName) -> Result<(), client::ClientError> {
    let status = admin.deployment_status(name)?;
    let confirm = status.confirm_resume.unwrap_or_default();
    admin
        .resume_deployment(name, &ResumeRequest { confirm })
        .map(drop)
}

/// Somebody sees to all that stands still, as the guides say: nothing that a person wouldn't do.
fn look_after(world: &Arc<World>, name: &DeploymentName) -> Result<()> {
    server_up(world)?;
    world.office.look_around()?;
    let admin = world.office.admin();
    let did = |what: String, done: Result<(), client::ClientError>| {
        let came = done.map_or_else(|error| format!(": {error}"), |()| String::new());
        world.tell("people", &format!("{what}{came}"));
    };
    sign(world, name);
    let status = admin.deployment_status(name)?;
    if status.stopped {
        did(
            "the deployment is resumed".into(),
            resume_deployment(&admin, name),
        );
    }
    if !status.cancelled.is_empty() {
        let devices: Vec<_> = status
            .cancelled
            .iter()
            .map(|cancelled| cancelled.device)
            .collect();
        let confirm = format!("{name} {}", devices.len());
        let done = admin.uncancel_deployment(name, &DeviceList { devices, confirm });
        did("nobody is cancelled any more".into(), done.map(drop));
    }
    if status.asks_for_cap {
        let request = CapRequest {
            cap: status.reach,
            confirm: status.confirm_cap.unwrap_or_default(),
        };
        did(
            format!("the cap is raised to {}", status.reach),
            admin.change_cap(name, &request).map(drop),
        );
    }
    for row in admin.quarantine()? {
        let (what, decision) = match is_claimant(&row) {
            false => ("what it says", Decision::ReplaceKey { asset: None }),
            true if row.decision.is_none() && world.between(0, 1) == 0 => {
                let reason = "its label says something else".to_owned();
                ("kept out", Decision::Reject { reason })
            }
            true => continue,
        };
        let machines = vec![row.machine.clone()];
        let decide = Decide { machines, decision };
        did(
            format!("{} is {what}", row.machine),
            admin.decide(&decide).map(drop),
        );
    }
    let laptops: Vec<_> = world.change(|world| {
        for laptop in &mut world.laptops {
            laptop.has_network = true;
        }
        let laptops = world.own().iter();
        laptops
            .map(|laptop| {
                (
                    laptop.device.clone(),
                    laptop.is_on,
                    is_in_use(&laptop.state) && laptop.environment == Environment::Os,
                )
            })
            .collect()
    });
    let waiting = unfinished_machines(world, name)?;
    for (machine, (device, is_on, is_used)) in laptops.into_iter().enumerate() {
        world.threads.poke(machine);
        if !waiting.contains(&machine) {
            continue;
        }
        let run = latest(&admin, &device)?;
        let ended = [DeviceState::Failed, DeviceState::Stopped];
        let id: DeviceId = device.parse().context("a device id")?;
        match &run {
            // Somebody wanted it to run what its disk refuses by now.
            Some(run) if run.deployment != *name => {
                let stop = format!("/api/v1/runs/{}/stop", run.run);
                let stopped = admin.send::<_, Value>("POST", &stop, &Value::Null);
                did(
                    format!("{device}'s other run is stopped"),
                    stopped.map(drop),
                );
                let (add, remove) = (Vec::new(), vec![id]);
                let other = run.deployment.as_str().parse()?;
                let done = admin.change_members(&other, &MemberChange { add, remove });
                did(format!("{device} is taken out of {other}"), done.map(drop));
                let (add, remove) = (vec![id], Vec::new());
                let done =
                    admin.change_members(&name.as_str().parse()?, &MemberChange { add, remove });
                did(format!("{device} is put in"), done.map(drop));
            }
            // Its disk is in use, and refuses what somebody had begin anew.
            Some(run) if is_in_use_for(world, machine) && run.state == DeviceState::Failed => {
                stage_anew(world, machine)?;
                let path = format!("/api/v1/runs/{}/retry", run.run);
                let done = admin.send::<_, Value>("POST", &path, &Value::Null);
                did(format!("{device} is staged anew"), done.map(drop));
                continue;
            }
            Some(run) if ended.contains(&run.state) => {
                let path = format!("/api/v1/runs/{}/retry", run.run);
                let done = admin.send::<_, Value>("POST", &path, &Value::Null);
                did(format!("{device}'s run is retried"), done.map(drop));
            }
            None => {
                let (add, remove) = (vec![id], Vec::new());
                let done =
                    admin.change_members(&name.as_str().parse()?, &MemberChange { add, remove });
                did(format!("{device} is put in"), done.map(drop));
            }
            Some(_) => {}
        }
        if is_used && is_on {
            // Its OS is in use, and something is left to do: it is started from its boot image.
            world.change(|world| world.laptops[machine].is_on = false);
        }
        if !is_on || is_used {
            // One that starts its OS would only be used.
            let by_hand = world.change(|world| is_in_use(&world.laptops[machine].state));
            world.after(SECOND, Event::SwitchOn { machine, by_hand });
        }
    }
    Ok(())
}

/// In a county with a wipe key, somebody signs for the machines that need it.
fn sign(world: &World, name: &DeploymentName) {
    let Some(key) = &world.wipe_key else {
        return;
    };
    match world.office.sign_warrants(name, key) {
        Ok(machines) if machines.is_empty() => {}
        Ok(machines) => {
            world.tell(
                "people",
                &format!("{name} is signed for {} machines", machines.len()),
            );
            let signed = machines
                .into_iter()
                .map(|machine| (machine.serial, name.clone(), machine.run));
            world.change(|world| world.signed.extend(signed));
        }
        Err(error) => world.tell("people", &format!("{name} can't be signed for: {error}")),
    }
}

/// Whether a disk is in use that is to be laid out.
fn is_in_use_for(world: &World, machine: usize) -> bool {
    world.change(|world| world.deployments == 1 && world.laptops[machine].state.deployed)
}

/// A person has a machine staged anew, with a stick.
fn stage_anew(world: &Arc<World>, machine: usize) -> Result<()> {
    world.threads.kill(machine);
    let (serial, device, start) = world.change(|world| {
        let laptop = &world.laptops[machine];
        (laptop.serial.clone(), laptop.device.clone(), laptop.start)
    });
    let laptop = Laptop {
        start: start + 1,
        ..Laptop::new(serial, device, true)?
    };
    world.change(|world| world.laptops[machine] = laptop);
    leave_word(world, machine)?;
    let by_hand = false;
    world.after(SECOND, Event::SwitchOn { machine, by_hand });
    Ok(())
}

/// Machines that aren't done, as far as the server knows or they themselves do.
fn unfinished_machines(world: &Arc<World>, name: &DeploymentName) -> Result<Vec<usize>> {
    let admin = world.office.admin();
    let laptops: Vec<_> = world.change(|world| {
        let laptops = world.own().iter();
        laptops
            .map(|laptop| {
                let is_done = laptop.done().count() >= world.deployments;
                let is_used = is_in_use(&laptop.state);
                (laptop.device.clone(), is_used, is_done && world.is_restored)
            })
            .collect()
    });
    let mut machines = Vec::new();
    for (machine, (device, is_used, may_be_forgotten)) in laptops.into_iter().enumerate() {
        let run = latest(&admin, &device)?;
        let is_completed =
            run.is_some_and(|run| run.deployment == *name && run.state == DeviceState::Completed);
        // A restored server may never hear of a run that it has forgotten.
        if !is_used || !(is_completed || may_be_forgotten) {
            machines.push(machine);
        }
    }
    Ok(machines)
}

/// The same in words.
fn unfinished(world: &Arc<World>, name: &DeploymentName) -> Result<Vec<String>> {
    if !world.office.is_up() {
        return Ok(vec!["the server is away".to_owned()]);
    }
    let machines = unfinished_machines(world, name)?;
    let words = machines.into_iter().map(|machine| {
        world.change(|world| {
            let laptop = &world.laptops[machine];
            let state = if is_in_use(&laptop.state) {
                "in use, but the server doesn't know"
            } else if laptop.is_on {
                "on, and not done"
            } else {
                "off, and not done"
            };
            format!("{} is stuck: {state}", laptop.serial)
        })
    });
    Ok(words.collect())
}

/// The factory leaves its word on a staged disk.
pub(crate) fn leave_word(world: &Arc<World>, machine: usize) -> Result<()> {
    let host = PoweredOn::new(world, machine, Environment::BootImage);
    connection::write_staged(&*host, Utf8Path::new("/staging"), &staged()?)?;
    world.change(|world| world.laptops[machine].disk.sync_all());
    Ok(())
}
