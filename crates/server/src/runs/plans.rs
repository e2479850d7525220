//! Run plans: how runs would go on devices, before any of them is touched. See `docs/formats/admin-api.md`.
//!
//! The plan itself is `sequence::run_plan`; here it gets what an order would hold and what the device holds already.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use content::Library;
use futures_util::future::try_join_all;
use sequence::run_plan::{Known, plan_run};
use serde_json::Value;
use sqlx::AnyConnection;
use wire::admin_api::{Deployment, Finding};
use wire::device_api::Staged;
use wire::device_plan::{
    DETAILED_MAX, DevicePlan, HostNameClash, PlanDetail, PlanDevices, PlanReply, PlanRequest,
    PlanWhat, PlannedContent, StepCounts,
};
use wire::drift::PrestageId;
use wire::facts::Facts;
use wire::names::{CollectionName, PackageName, SequenceName};
use wire::package::Package;
use wire::run_plan::{Decision, RunPlan};
use wire::sequence::CompiledSequence;

use crate::catalog::sequences::{checked, refused};
use crate::catalog::stock::{Carried, Lack, Stock, built, bytes_of, carried, packages_of};
use crate::error::{Doing as _, Failure, stored, stored_text};
use crate::fleet::identity::name_key;
use crate::fleet::targeting::membership;
use crate::fleet::variables::{ScopeNames, Scoped, all_scoped, layered, told};
use crate::limits::{PLANNED_ALONE_MAX, PLANNED_SERIALS_MAX, SEQUENCE_BYTES_MAX};
use crate::people::auth::User;
use crate::routes::read_json;
use crate::runs::due::due_deployments;
use crate::runs::orders::{current_packages, device_values, latest_sequence};
use crate::runs::rows::StoredDevice;
use crate::state::{AppState, blocking};

/// `POST /api/v1/plans`
pub(crate) async fn plan(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Response, Failure> {
    let request: PlanRequest = read_json(body, SEQUENCE_BYTES_MAX).await?;
    Ok(match state.plan_runs(&user, request).await? {
        Ok(reply) => Json(reply).into_response(),
        Err(findings) => refused(findings),
    })
}

impl AppState {
    /// How the run that is due would go on the device with this serial number; `None` if there is no such device.
    ///
    /// # Errors
    /// If the database or the content library fails.
    pub(crate) async fn device_plan(
        &self,
        device: StoredDevice,
    ) -> Result<Option<DevicePlan>, Failure> {
        let material = Material::read(self, PlannedSequence::Due, None).await?;
        let mut plans = plan_devices(self, material, vec![device], true).await?;
        Ok(plans.pop())
    }

    /// The findings, if the document to be planned has errors.
    async fn plan_runs(
        &self,
        user: &User,
        request: PlanRequest,
    ) -> Result<Result<PlanReply, Vec<Finding>>, Failure> {
        let mut devices = self.stored_devices_for(user).await?;
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read what is planned")?;
        choose(&mut db, &request.devices, &mut devices).await?;
        let what = match request.what {
            PlanWhat::Due => PlannedSequence::Due,
            PlanWhat::Sequence { name } => match latest_sequence(&mut db, &name).await? {
                Some((_, sequence)) => PlannedSequence::This(Box::new(Pair::of(sequence))),
                None => return Err(Failure::not_found(format!("sequence {name}"))),
            },
            PlanWhat::Document { text } => match checked(&mut db, &text).await? {
                Ok((sequence, _)) => PlannedSequence::This(Box::new(Pair::of(sequence))),
                Err(findings) => return Ok(Err(findings)),
            },
        };
        drop(db);
        if request.detailed && devices.len() > DETAILED_MAX {
            let message = format!("plans of at most {DETAILED_MAX} devices are told step by step");
            return Err(Failure::bad_request("too-many-devices", message)
                .hint("ask for numbers only, or for fewer devices"));
        }
        let collection = match request.devices {
            PlanDevices::Collection { name } => Some(name),
            PlanDevices::Serials { .. } | PlanDevices::All => None,
        };
        let material = Material::read(self, what, collection).await?;
        let plans = plan_devices(self, material, devices, request.detailed).await?;
        Ok(Ok(reply(plans)))
    }
}

/// Keeps the devices asked for.
async fn choose(
    db: &mut AnyConnection,
    wanted: &PlanDevices,
    devices: &mut Vec<StoredDevice>,
) -> Result<(), Failure> {
    match wanted {
        PlanDevices::All => {}
        PlanDevices::Collection { name } => {
            let members = membership::require_members(db, name).await?;
            devices.retain(|device| members.contains(&device.id));
        }
        PlanDevices::Serials { serials } => {
            if serials.len() > PLANNED_SERIALS_MAX {
                return Err(Failure::bad_request(
                    "too-many-devices",
                    format!("at most {PLANNED_SERIALS_MAX} serial numbers"),
                ));
            }
            let mut chosen = Vec::with_capacity(serials.len());
            for serial in serials {
                let key = name_key(serial);
                let found = devices
                    .iter()
                    .find(|device| Some(&device.serial_key) == key.as_ref());
                let device = found.ok_or_else(|| {
                    Failure::not_found(format!("device with serial number {serial}"))
                        .hint("`forestage device list` shows all")
                })?;
                chosen.push(device.clone());
            }
            *devices = chosen;
        }
    }
    Ok(())
}

/// What would run.
enum PlannedSequence {
    /// What is due on each device.
    Due,
    /// This.
    This(Box<Pair>),
}

/// A sequence and the factory sequence derived from it, by which an order's packages are chosen.
struct Pair {
    sequence: CompiledSequence,
    stage: CompiledSequence,
}

impl Pair {
    fn of(sequence: CompiledSequence) -> Self {
        Self {
            stage: sequence::derive::stage_sequence(&sequence),
            sequence,
        }
    }
}

/// Everything that plans are made from, read once for all devices.
struct Material {
    what: PlannedSequence,
    /// Whose variables count if it isn't what is due that is planned.
    collection: Option<CollectionName>,
    due: BTreeMap<String, Deployment>,
    /// The sequences of all deployments that are due.
    sequences: BTreeMap<SequenceName, Pair>,
    packages: Vec<Package>,
    scoped: Scoped,
    carried: BTreeMap<String, Carried>,
    /// What the versions that devices carry hold.
    staged: BTreeMap<PrestageId, Vec<Package>>,
}

impl Material {
    async fn read(
        state: &AppState,
        what: PlannedSequence,
        collection: Option<CollectionName>,
    ) -> Result<Self, Failure> {
        let mut db = state
            .db()
            .read()
            .acquire()
            .await
            .doing("read what is planned")?;
        let due = due_deployments(&mut db, None).await?;
        let mut sequences = BTreeMap::new();
        for deployment in due.values() {
            if let PlannedSequence::Due = what
                && !sequences.contains_key(&deployment.sequence)
                && let Some((_, found)) = latest_sequence(&mut db, &deployment.sequence).await?
            {
                sequences.insert(deployment.sequence.clone(), Pair::of(found));
            }
        }
        let carried = carried(&mut db).await?;
        let mut staged = BTreeMap::new();
        for Carried { id, .. } in carried.values() {
            // A version that this server never built comes from another one: nobody knows what is in it.
            if !staged.contains_key(id)
                && let Some(version) = built(&mut db, id).await?
            {
                staged.insert(id.clone(), packages_of(&mut db, &version).await?);
            }
        }
        Ok(Self {
            what,
            collection,
            due,
            sequences,
            packages: current_packages(&mut db).await?,
            scoped: all_scoped(&mut db).await?,
            carried,
            staged,
        })
    }

    /// The sequence for a device, and the collection whose variables count.
    fn run_of(&self, device: &StoredDevice) -> Option<(&Pair, Option<&CollectionName>)> {
        let due = self.due.get(&device.id);
        match &self.what {
            PlannedSequence::Due => {
                let due = due?;
                Some((self.sequences.get(&due.sequence)?, Some(&due.collection)))
            }
            PlannedSequence::This(sequence) => {
                let collection = self.collection.as_ref();
                Some((sequence, collection.or(due.map(|due| &due.collection))))
            }
        }
    }
}

/// A plan, and the packages it needs: their place among the current ones, and whether they are sure to be needed.
struct Drafted {
    plan: DevicePlan,
    needs: Vec<(usize, bool)>,
}

async fn plan_devices(
    state: &AppState,
    material: Material,
    devices: Vec<StoredDevice>,
    detailed: bool,
) -> Result<Vec<DevicePlan>, Failure> {
    // One fleet at a time: each takes all cores. A device alone doesn't wait for that.
    let _one_at_a_time = match devices.len() > PLANNED_ALONE_MAX {
        true => Some(state.planning().lock().await),
        false => None,
    };
    let material = Arc::new(material);
    let draft_all = Arc::clone(&material);
    let drafts = on_all_cores(devices, move |device| draft(&draft_all, device, detailed)).await?;
    let library = state.library();
    blocking(move || {
        let mut prices = Prices::new(&library, &material);
        let mut plans = Vec::with_capacity(drafts.len());
        for drafted in drafts {
            plans.push(prices.price(drafted)?);
        }
        Ok(plans)
    })
    .await
}

/// Does blocking work on every item, on all cores; the results are in the order of the items.
async fn on_all_cores<T: Send + Sync + 'static, R: Send + 'static>(
    items: Vec<T>,
    work: impl Fn(&T) -> Result<R, Failure> + Send + Sync + 'static,
) -> Result<Vec<R>, Failure> {
    let workers = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(items.len().max(1));
    let (items, work) = (Arc::new(items), Arc::new(work));
    let share = |worker: usize| {
        let (items, work) = (Arc::clone(&items), Arc::clone(&work));
        blocking(move || {
            let own = items.iter().skip(worker).step_by(workers);
            own.map(|item| work(item)).collect::<Result<Vec<R>, _>>()
        })
    };
    let shares = try_join_all((0..workers).map(share)).await?;
    let mut shares: Vec<_> = shares.into_iter().map(Vec::into_iter).collect();
    let results = (0..items.len()).filter_map(|at| shares[at % workers].next());
    Ok(results.collect())
}

fn draft(material: &Material, device: &StoredDevice, detailed: bool) -> Result<Drafted, Failure> {
    let carries = material.carried.get(&device.serial_key);
    let (facts, is_seen) = facts_of(device)?;
    let mut plan = DevicePlan {
        device: stored_text("device id", &device.id)?,
        serial: device.serial.clone(),
        model: device.model(),
        site: device.site.clone(),
        site_name: device.site_name.clone(),
        class: device.class.clone(),
        is_seen,
        staged: carries.map(|carries| carries.id.clone()),
        deployment: material.due.get(&device.id).map(|due| due.name.clone()),
        sequence: None,
        host_name: None,
        steps: StepCounts::default(),
        problem: None,
        fetch_bytes: 0,
        fetch_bytes_certain: 0,
        detail: None,
    };
    let Some((Pair { sequence, stage }, collection)) = material.run_of(device) else {
        return Ok(Drafted {
            plan,
            needs: Vec::new(),
        });
    };
    let names = ScopeNames::of(device, collection);
    let staged: Option<Staged> = carries.and_then(Carried::staged);
    let known = device_values(device, staged.as_ref())?;
    let layers = layered(Some(sequence), &names, &material.scoped, known);
    let variables: BTreeMap<String, Value> = layers
        .iter()
        .map(|(key, value, _)| (key.clone(), value.clone()))
        .collect();
    // Exactly the packages that the order would name: a step that asks for another one fails, here as there.
    let ordered =
        sequence::select::select(sequence, stage, &plan.model, &variables, &material.packages).kept;
    let ordered: Vec<Package> = ordered.into_iter().map(|(package, _)| package).collect();
    let known = Known {
        facts: &facts,
        is_seen,
        variables: &variables,
        packages: &ordered,
    };
    let run = plan_run(sequence, &known);
    plan.sequence = Some(sequence.name.clone());
    plan.host_name.clone_from(&run.host_name);
    plan.steps = count(&run);
    plan.problem = problem(sequence, &run);
    let needs = run
        .packages
        .iter()
        .filter_map(|needed| Some((place(&material.packages, &needed.name)?, needed.certain)))
        .collect();
    if detailed {
        let variables = layers.into_iter().map(told).collect();
        plan.detail = Some(PlanDetail {
            run,
            variables,
            packages: Vec::new(),
        });
    }
    Ok(Drafted { plan, needs })
}

/// What the machine told; before it ever did, what the asset file says of it.
fn facts_of(device: &StoredDevice) -> Result<(Facts, bool), Failure> {
    if device.checked_in_at_ms > 0 {
        return Ok((stored("facts", &device.facts)?, true));
    }
    let model = device.model();
    let facts = Facts {
        vendor: model.vendor,
        product: model.product,
        sku: model.sku,
        baseboard: model.baseboard,
        serial: device.serial.clone(),
        asset_tag: device.asset_tag.clone(),
        uuid: device.uuid.parse().ok(),
        ..Facts::default()
    };
    Ok((facts, false))
}

fn place(packages: &[Package], name: &PackageName) -> Option<usize> {
    packages.iter().position(|package| &package.name == name)
}

fn count(run: &RunPlan) -> StepCounts {
    let of = |decision: Decision| {
        let steps = run.steps.iter().filter(|step| step.decision == decision);
        u32::try_from(steps.count()).unwrap_or(u32::MAX)
    };
    StepCounts {
        runs: of(Decision::Runs),
        skipped: of(Decision::Skipped),
        undecided: of(Decision::Undecided),
        fails: of(Decision::Fails),
    }
}

/// The step at which the run would end in failure, if there is one.
fn problem(sequence: &CompiledSequence, run: &RunPlan) -> Option<String> {
    let mut steps = sequence.steps.iter().zip(&run.steps);
    let (_, step) = steps
        .find(|(compiled, step)| step.decision == Decision::Fails && !compiled.continue_on_error)?;
    Some(format!("step `{}`: {}", step.path, step.errors.join(": ")))
}

/// What content costs the devices: computed once for each version carried and package, and once for each list of these.
struct Prices<'m> {
    library: &'m Library,
    material: &'m Material,
    stocks: HashMap<Option<PrestageId>, Stock>,
    lacks: HashMap<(Option<PrestageId>, usize), Lack>,
    lists: HashMap<(Option<PrestageId>, Vec<usize>), Vec<u64>>,
}

impl<'m> Prices<'m> {
    fn new(library: &'m Library, material: &'m Material) -> Self {
        Self {
            library,
            material,
            stocks: HashMap::new(),
            lacks: HashMap::new(),
            lists: HashMap::new(),
        }
    }

    fn price(&mut self, drafted: Drafted) -> Result<DevicePlan, Failure> {
        let Drafted { mut plan, needs } = drafted;
        let carries = plan.staged.clone();
        let all: Vec<usize> = needs.iter().map(|(at, _)| *at).collect();
        let bytes = self.bytes(&carries, all)?;
        plan.fetch_bytes = bytes.iter().sum();
        let certain = needs.iter().filter(|(_, certain)| *certain);
        let certain = certain.map(|(at, _)| *at).collect();
        plan.fetch_bytes_certain = self.bytes(&carries, certain)?.iter().sum();
        if let Some(detail) = &mut plan.detail {
            let staged = carries.and_then(|id| self.material.staged.get(&id));
            let rows = needs.iter().zip(bytes).map(|((at, certain), fetch_bytes)| {
                let package = &self.material.packages[*at];
                let held = staged.and_then(|held| held.iter().find(|p| p.name == package.name));
                PlannedContent {
                    name: package.name.clone(),
                    version: package.version.clone(),
                    kind: package.kind,
                    content_bytes: package.content_bytes,
                    certain: *certain,
                    staged: held.map(|package| package.version.clone()),
                    fetch_bytes,
                }
            });
            detail.packages = rows.collect();
        }
        Ok(plan)
    }

    /// What a device that carries this version fetches for each package.
    fn bytes(
        &mut self,
        carries: &Option<PrestageId>,
        packages: Vec<usize>,
    ) -> Result<Vec<u64>, Failure> {
        let list = (carries.clone(), packages);
        if let Some(bytes) = self.lists.get(&list) {
            return Ok(bytes.clone());
        }
        for at in &list.1 {
            self.weigh(carries, *at)?;
        }
        let lacks = list
            .1
            .iter()
            .filter_map(|at| self.lacks.get(&(carries.clone(), *at)));
        let bytes = bytes_of(&lacks.collect::<Vec<_>>());
        self.lists.insert(list, bytes.clone());
        Ok(bytes)
    }

    fn weigh(&mut self, carries: &Option<PrestageId>, at: usize) -> Result<(), Failure> {
        let key = (carries.clone(), at);
        if self.lacks.contains_key(&key) {
            return Ok(());
        }
        if !self.stocks.contains_key(carries) {
            let held = carries.as_ref().and_then(|id| self.material.staged.get(id));
            let stock = Stock::of(self.library, held.map_or(&[], Vec::as_slice))?;
            self.stocks.insert(carries.clone(), stock);
        }
        if let Some(stock) = self.stocks.get(carries) {
            let lack = stock.lacks(self.library, &self.material.packages[at])?;
            self.lacks.insert(key, lack);
        }
        Ok(())
    }
}

fn reply(plans: Vec<DevicePlan>) -> PlanReply {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for plan in &plans {
        if let Some(name) = &plan.host_name {
            let serials = names.entry(name.to_lowercase()).or_default();
            serials.push(plan.serial.clone());
        }
    }
    let clashes = names
        .into_iter()
        .filter(|(_, serials)| serials.len() > 1)
        .map(|(host_name, serials)| HostNameClash { host_name, serials })
        .collect();
    let failing = plans.iter().filter(|plan| plan.problem.is_some()).count();
    PlanReply {
        clashes,
        failing: u32::try_from(failing).unwrap_or(u32::MAX),
        fetch_bytes: plans.iter().map(|plan| plan.fetch_bytes).sum(),
        plans,
    }
}
