//! What the server answers machines, and what must hold of every answer at that moment: a machine is let in as itself alone, there
//! is a place for whoever begins, the cap allows it, and what was answered stays true when the server is killed.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use http::{Request, Response};
use wire::admin_api::Deployment;
use wire::device_api::{CheckInReply, EventAck};
use wire::names::{DeviceId, RunId};
use wire::order::Order;

use crate::time::now_ms;
use crate::world::{MINUTE, World};

const CHECK_IN: &str = "/device/v1/check-in";
const RUNS: &str = "/device/v1/runs/";
/// How long a run that says nothing holds its place.
const STALLED_AFTER: i64 = 5 * MINUTE;

impl World {
    /// The server's answer to a machine; `None` if it is away.
    pub(crate) fn answer(
        &self,
        machine: usize,
        request: Request<Vec<u8>>,
    ) -> Option<Response<Vec<u8>>> {
        let path = request.uri().path().to_owned();
        let answer = self.office.answer(request)?;
        if answer.status().is_success()
            && let Err(error) = self.judge(machine, &path, answer.body())
        {
            self.wrong(format!("the answer to {path} can't be judged: {error:#}"));
        }
        Some(answer)
    }

    fn judge(&self, machine: usize, path: &str, answer: &[u8]) -> Result<()> {
        let run = path
            .strip_prefix(RUNS)
            .and_then(|rest| rest.strip_suffix("/events"));
        if let Some(run) = run {
            let ack: EventAck = serde_json::from_slice(answer)?;
            let run: RunId = run.parse().context("a run's name")?;
            self.change(|world| world.said.insert(run, ack.acknowledged));
        } else if path == CHECK_IN {
            let reply: CheckInReply = serde_json::from_slice(answer)?;
            match reply {
                CheckInReply::Run { device, order, .. } => {
                    self.is_itself(machine, device);
                    let is_new = self.change(|world| {
                        let is_new = !world.said.contains_key(&order.run);
                        world.said.entry(order.run).or_insert(0);
                        is_new
                    });
                    if is_new {
                        self.may_begin(&order)?;
                    }
                }
                CheckInReply::Idle {
                    device, message, ..
                } => {
                    self.is_itself(machine, device);
                    self.change(|world| {
                        world.figures.waits += u64::from(message.contains("waiting for a place"));
                        world.figures.held_by_cap += u64::from(message.contains(" its cap "));
                    });
                }
                CheckInReply::Quarantined { .. } | CheckInReply::Refused { .. } => {
                    self.change(|world| {
                        let laptop = &mut world.laptops[machine];
                        laptop.is_put_aside = true;
                        world.figures.claimants_refused += u64::from(laptop.is_claimant);
                    });
                }
            }
        }
        Ok(())
    }

    /// A machine is let in as what it is. A second claimant is nobody.
    fn is_itself(&self, machine: usize, device: DeviceId) {
        let (name, is_itself) = self.change(|world| {
            let laptop = &mut world.laptops[machine];
            laptop.was_let_in = true;
            (laptop.name(), laptop.device == device.to_string())
        });
        if !is_itself {
            self.wrong(format!(
                "{name} is let in as the device {device}, which it isn't"
            ));
        }
    }

    /// A run begins: it has a place at the site and one of its deployment's, and no more machines are touched than the cap says.
    fn may_begin(&self, order: &Order) -> Result<()> {
        let name = order.deployment.as_ref().context("no deployment")?;
        let runs: Vec<(String, String, String, i64)> = self
            .office
            .rows("SELECT device, deployment, state, last_seen_at_ms FROM runs")
            .context("cannot read the runs")?;
        let documents: Vec<(String,)> = self
            .office
            .rows("SELECT document FROM deployments")
            .context("cannot read the deployments")?;
        let deployments: Result<Vec<Deployment>, _> = documents
            .iter()
            .map(|(document,)| serde_json::from_str(document))
            .collect();
        let deployments = deployments.context("a deployment can't be read")?;
        let deployment = deployments
            .iter()
            .find(|deployment| deployment.name == *name)
            .with_context(|| format!("there is no deployment {name}"))?;
        let holds_place =
            |state: &str, seen: i64| state == "running" && seen > now_ms() - STALLED_AFTER;
        let ours = |other: &str| other == name.as_str();
        let at_site = runs
            .iter()
            .filter(|(_, _, state, seen)| holds_place(state, *seen))
            .count();
        let in_deployment = runs
            .iter()
            .filter(|(_, other, state, seen)| ours(other) && holds_place(state, *seen))
            .count();
        let mut touched: Vec<&str> = runs
            .iter()
            .filter(|(_, other, ..)| ours(other))
            .map(|(device, ..)| device.as_str())
            .collect();
        touched.sort_unstable();
        touched.dedup();
        let limits = [
            (at_site, self.places, "are at work at a site, whose places"),
            (
                in_deployment,
                deployment.slots,
                "are at work in a deployment, whose places",
            ),
        ];
        for (machines, places, what) in limits {
            if places > 0 && machines > size(places) {
                self.wrong(format!("{machines} machines {what} are {places}"));
            }
        }
        if touched.len() > size(deployment.cap) {
            let (touched, cap) = (touched.len(), deployment.cap);
            self.wrong(format!(
                "{name} has touched {touched} machines, and its cap is {cap}"
            ));
        }
        Ok(())
    }

    /// What the server has of each run is what it said: nothing but its database says so now.
    pub(crate) fn believe_the_database(&self) -> Result<()> {
        let said = self.acknowledged()?;
        self.change(|world| world.said = said);
        Ok(())
    }

    /// A server that was killed has all that it had said.
    pub(crate) fn has_what_it_said(&self) -> Result<()> {
        let has = self.acknowledged()?;
        let said = self.change(|world| world.said.clone());
        for (run, said) in said {
            match has.get(&run) {
                Some(has) if *has == said => {}
                Some(has) => self.wrong(format!(
                    "run {run}: the server had said that it has {said} events, and has {has}"
                )),
                None => self.wrong(format!(
                    "run {run} was handed out, and the server has forgotten it"
                )),
            }
        }
        Ok(())
    }

    fn acknowledged(&self) -> Result<BTreeMap<RunId, u64>> {
        let rows: Vec<(String, i64)> = self
            .office
            .rows("SELECT id, acknowledged FROM runs")
            .context("cannot read the runs")?;
        rows.into_iter()
            .map(|(run, acknowledged)| {
                let run = run.parse().context("a run's name")?;
                Ok((run, u64::try_from(acknowledged)?))
            })
            .collect()
    }
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
