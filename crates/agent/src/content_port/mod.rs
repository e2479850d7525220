//! The `Content` port: the library on the staging partition, the boot medium's bundle, and the network, in this order.

mod medium;
mod remote;

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use content::{ChunkSource, Keeping, Library, Manifest, Meter, PatchSource};
use sequence::ports::{Content, Progress, StepError, TreeTarget};
use wire::digest::Digest;
use wire::event::{ContentBytes, ProgressUnit};
use wire::layout::VolumeRole;
use wire::package::Package;

use crate::connection::Connection;
use crate::log;
use crate::machine::linux::step_error;
use crate::machine::target::Target;
use crate::machine::volumes::Volumes;

pub(crate) use medium::MediumSource;
use remote::{RemotePatch, RemoteSource, StepPatch};

/// The content of one run.
pub(crate) struct RunContent {
    packages: Vec<Package>,
    volumes: Arc<Volumes>,
    library: Mutex<Option<Arc<Library>>>,
    /// At the factory.
    medium: Option<MediumSource>,
    /// On site.
    connection: Option<Arc<Connection>>,
    /// The patches to packages whose manifests came by one: for their chunks, too.
    patches: Mutex<Vec<Arc<RemotePatch>>>,
}

impl RunContent {
    /// Content from the boot medium, at the factory.
    pub(crate) fn of_medium(
        packages: Vec<Package>,
        volumes: Arc<Volumes>,
        medium: MediumSource,
    ) -> Self {
        Self {
            packages,
            volumes,
            library: Mutex::default(),
            medium: Some(medium),
            connection: None,
            patches: Mutex::default(),
        }
    }

    /// Content from the staging partition and the network, on site.
    pub(crate) fn on_site(
        packages: Vec<Package>,
        volumes: Arc<Volumes>,
        connection: Arc<Connection>,
    ) -> Self {
        Self {
            packages,
            volumes,
            library: Mutex::default(),
            medium: None,
            connection: Some(connection),
            patches: Mutex::default(),
        }
    }

    /// The library on the staging partition; opened at first use.
    fn library(&self) -> Result<Arc<Library>> {
        let mut held = self.library.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = &*held {
            return Ok(Arc::clone(library));
        }
        let folder = self
            .volumes
            .mount_staging()
            .context("content needs the staging partition")?;
        let library = Arc::new(
            Library::open(&folder.join("library")).context("cannot open the content library")?,
        );
        *held = Some(Arc::clone(&library));
        Ok(library)
    }

    /// The package's manifest; stored in the library if it came from elsewhere. Also how many bytes of network it took.
    fn manifest(&self, package: &Package, progress: &dyn Progress) -> Result<(Manifest, u64)> {
        let library = self.library()?;
        if let Some(bytes) = library.manifest_bytes(&package.manifest)? {
            let manifest = Manifest::decode(&bytes)?;
            // A run that was cut off goes on with the patch that it began with.
            let is_whole = library.missing(&manifest).is_empty();
            let patched = match &self.connection {
                Some(connection) if !is_whole && connection.is_online() => {
                    self.fetch_patch(connection, &library, &package.manifest, progress)
                }
                _ => None,
            };
            return Ok((manifest, patched.map_or(0, |(_, bytes)| bytes)));
        }
        if let Some(bytes) = self
            .medium
            .as_ref()
            .and_then(|medium| medium.manifest(&package.manifest))
        {
            library.put_manifest(bytes)?;
            return Ok((Manifest::decode(bytes)?, 0));
        }
        let connection = self.connection.as_ref().with_context(|| {
            format!(
                "the manifest of {} {} is neither on the disk nor on the medium",
                package.name, package.version
            )
        })?;
        let (bytes, fetched) =
            match self.fetch_patch(connection, &library, &package.manifest, progress) {
                Some(patched) => patched,
                None => {
                    let bytes = remote::fetch_manifest(connection, &package.manifest, progress)?;
                    let fetched = bytes.len() as u64;
                    (bytes, fetched)
                }
            };
        let digest = library.put_manifest(&bytes)?;
        anyhow::ensure!(
            digest == package.manifest,
            "the server sent another manifest than {}",
            package.manifest
        );
        Ok((Manifest::decode(&bytes)?, fetched))
    }

    /// Fetches the front of a patch to a manifest, if the server has one from a manifest that is here; its chunks come from
    /// it, too. The manifest's bytes, and how many bytes of network that took; `None` if there is no patch, if there was one
    /// already, or if it is of no use.
    fn fetch_patch(
        &self,
        connection: &Arc<Connection>,
        library: &Library,
        to: &Digest,
        progress: &dyn Progress,
    ) -> Option<(Vec<u8>, u64)> {
        let mut patches = self.patches.lock().unwrap_or_else(PoisonError::into_inner);
        if patches.iter().any(|patch| patch.to == *to) {
            return None;
        }
        match remote::fetch_patch(connection, library, to, progress) {
            Ok(None) => None,
            Ok(Some(patch)) => {
                let found = (patch.patch.manifest().to_vec(), patch.front_bytes);
                patches.push(Arc::new(patch));
                Some(found)
            }
            Err(error) => {
                log::warn("there is no patch; all that is new is fetched", &error);
                None
            }
        }
    }

    /// Runs `work` with all places chunks may come from. What comes from elsewhere is kept in the library on the way if
    /// `keep` says so (and `work` does not do it itself).
    fn with_sources<T>(
        &self,
        progress: &dyn Progress,
        keep: bool,
        work: impl FnOnce(&Library, &[&dyn ChunkSource]) -> Result<T>,
    ) -> Result<T> {
        let library = self.library()?;
        let remote = self
            .connection
            .as_ref()
            .map(|connection| RemoteSource::new(connection, progress));
        let medium = self
            .medium
            .as_ref()
            .map(|medium| medium as &dyn ChunkSource);
        let patches = self
            .patches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let bytes: Vec<StepPatch<'_>> = patches
            .iter()
            .map(|remote| remote.for_step(progress))
            .collect();
        let patched: Vec<PatchSource<'_>> = patches
            .iter()
            .zip(&bytes)
            .map(|(remote, bytes)| PatchSource::new(&remote.patch, bytes, &library))
            .collect();
        let patched = patched.iter().map(|patch| patch as &dyn ChunkSource);
        let remote = remote.as_ref().map(|remote| remote as &dyn ChunkSource);
        let elsewhere: Vec<&dyn ChunkSource> =
            medium.into_iter().chain(patched).chain(remote).collect();
        if !keep {
            return work(
                &library,
                &[&[&*library as &dyn ChunkSource], &elsewhere[..]].concat(),
            );
        }
        let keeping = elsewhere
            .iter()
            .map(|source| Keeping::new(*source, &library))
            .collect::<Result<Vec<_>, _>>()?;
        let kept = keeping.iter().map(|source| source as &dyn ChunkSource);
        let sources: Vec<&dyn ChunkSource> = std::iter::once(&*library as &dyn ChunkSource)
            .chain(kept)
            .collect();
        let result = work(&library, &sources);
        // What came before a cut is kept all the same.
        let finished = keeping.into_iter().try_for_each(Keeping::finish);
        let done = result?;
        finished?;
        Ok(done)
    }

    fn do_apply_image(
        &self,
        package: &Package,
        role: VolumeRole,
        progress: &dyn Progress,
    ) -> Result<ContentBytes> {
        let (manifest, manifest_bytes) = self.manifest(package, progress)?;
        self.volumes.release_target()?;
        let node = self.volumes.volume(role)?.node;
        anyhow::ensure!(
            !self.volumes.is_node_mounted(&node),
            "{} is mounted",
            node.display()
        );
        let target = fs::OpenOptions::new().read(true).write(true).open(&node);
        let target = target.with_context(|| format!("cannot open {}", node.display()))?;
        let meter = StepMeter { progress, package };
        let mut bytes = self.with_sources(progress, true, |_, sources| {
            Ok(content::converge_image(
                &manifest, &target, sources, &meter,
            )?)
        })?;
        target.sync_all()?;
        bytes.network_packed += manifest_bytes;
        Ok(bytes)
    }

    fn do_apply_tree(
        &self,
        package: &Package,
        target: &TreeTarget,
        progress: &dyn Progress,
    ) -> Result<(Utf8PathBuf, ContentBytes)> {
        let (manifest, manifest_bytes) = self.manifest(package, progress)?;
        let folder = match target {
            TreeTarget::Os(path) => {
                Target::open(&self.volumes.mount_target()?)?.real_folder(path)?
            }
            TreeTarget::Scratch => self.volumes.scratch_of(package)?,
        };
        let meter = StepMeter { progress, package };
        let mut bytes = self.with_sources(progress, true, |_, sources| {
            Ok(content::converge_tree(&manifest, &folder, sources, &meter)?)
        })?;
        bytes.network_packed += manifest_bytes;
        Ok((folder, bytes))
    }

    fn do_stage(&self, packages: &[&Package], progress: &dyn Progress) -> Result<ContentBytes> {
        let Some(first) = packages.first() else {
            return Ok(ContentBytes::default());
        };
        let mut manifests = Vec::new();
        let mut manifest_bytes = 0;
        for package in packages {
            let (manifest, bytes) = self.manifest(package, progress)?;
            manifests.push(manifest);
            manifest_bytes += bytes;
        }
        let meter = StepMeter {
            progress,
            package: first,
        };
        let mut bytes = self.with_sources(progress, false, |library, sources| {
            Ok(content::converge_library(
                &manifests, library, sources, &meter,
            )?)
        })?;
        bytes.network_packed += manifest_bytes;
        Ok(bytes)
    }
}

impl Content for RunContent {
    fn packages(&self) -> &[Package] {
        &self.packages
    }

    fn apply_image(
        &self,
        package: &Package,
        volume: VolumeRole,
        progress: &dyn Progress,
    ) -> Result<ContentBytes, StepError> {
        self.do_apply_image(package, volume, progress)
            .map_err(|error| {
                step_error(
                    format!(
                        "cannot apply {} {} to the {volume} volume",
                        package.name, package.version
                    ),
                    error,
                )
            })
    }

    fn apply_tree(
        &self,
        package: &Package,
        target: &TreeTarget,
        progress: &dyn Progress,
    ) -> Result<(Utf8PathBuf, ContentBytes), StepError> {
        self.do_apply_tree(package, target, progress)
            .map_err(|error| {
                step_error(
                    format!("cannot unpack {} {}", package.name, package.version),
                    error,
                )
            })
    }

    fn stage(
        &self,
        packages: &[&Package],
        progress: &dyn Progress,
    ) -> Result<ContentBytes, StepError> {
        self.do_stage(packages, progress).map_err(|error| {
            step_error("cannot bring the content onto the staging partition", error)
        })
    }
}

/// Joins the meter of `content` to the progress of a step.
struct StepMeter<'a> {
    progress: &'a dyn Progress,
    package: &'a Package,
}

impl Meter for StepMeter<'_> {
    fn report(&self, done: u64, total: u64) {
        self.progress
            .report(done, total, ProgressUnit::Bytes, self.package.name.as_str());
    }

    fn is_cancelled(&self) -> bool {
        self.progress.is_cancelled()
    }
}
