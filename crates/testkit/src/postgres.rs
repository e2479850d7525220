//! A private PostgreSQL cluster for tests: a Unix socket in a temporary folder, no port, no password, nothing on the disk
//! synced. It ends with the program that started it, however that ends, and leaves nothing behind.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

/// How long a cluster may take to get ready on a busy machine.
const READY_TIME_MAX: Duration = Duration::from_secs(120);
/// The user whom PostgreSQL's package makes; it refuses to run as root.
const POSTGRES_USER: &str = "postgres";

/// Waits for the end of its input, which comes when the test program ends. Sorting by Norwegian rules shows where a query
/// leaves the order of texts to the database.
const KEEPER: &str = r#"
set -eu
dir=$1 bin=$2
trap 'rm -rf "$dir"' EXIT
"$bin/initdb" -D "$dir/data" -U forestage --auth=trust --no-sync --encoding=UTF8 \
  --locale=C.UTF-8 --locale-provider=icu --icu-locale=nb-NO >"$dir/log" 2>&1
"$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c fsync=off -c full_page_writes=off \
  -c autovacuum=off -c shared_buffers=32MB -c max_connections=400 >>"$dir/log" 2>&1 &
cat >/dev/null
kill -INT $!
wait $! || true
"#;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    folder: Utf8PathBuf,
    programs: Utf8PathBuf,
    databases: AtomicU32,
    // Its input ends with this program.
    _keeper: Mutex<Child>,
}

/// The cluster of this test program, started at the first call.
///
/// # Errors
/// If PostgreSQL isn't installed or doesn't start; the error says what it needs.
pub fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    CLUSTER
        .get_or_init(|| Cluster::start().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

impl Cluster {
    fn start() -> Result<Self> {
        let programs = programs()?;
        let folder = Utf8PathBuf::try_from(std::env::temp_dir())?
            .join(format!("pg-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).with_context(|| format!("cannot make {folder}"))?;
        let mut command = Command::new("sh");
        if is_root() {
            let owned = Command::new("chown")
                .args([POSTGRES_USER, folder.as_str()])
                .status();
            if !owned.is_ok_and(|status| status.success()) {
                bail!("PostgreSQL refuses to run as root, and there is no user `{POSTGRES_USER}`");
            }
            command = Command::new("setpriv");
            command.args([
                "--reuid",
                POSTGRES_USER,
                "--regid",
                POSTGRES_USER,
                "--clear-groups",
                "sh",
            ]);
        }
        let keeper = command
            .args(["-c", KEEPER, "keeper", folder.as_str(), programs.as_str()])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the keeper of PostgreSQL")?;
        let cluster = Self {
            folder,
            programs,
            databases: AtomicU32::new(0),
            _keeper: Mutex::new(keeper),
        };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let start = Instant::now();
        while self
            .folder
            .join(".s.PGSQL.5432")
            .symlink_metadata()
            .is_err()
            || self.psql("forestage", "postgres", "SELECT 1").is_err()
        {
            if start.elapsed() > READY_TIME_MAX {
                let mut log = String::new();
                let _log = std::fs::File::open(self.folder.join("log"))
                    .and_then(|mut file| file.read_to_string(&mut log));
                bail!(
                    "PostgreSQL from {} does not get ready:\n{log}",
                    self.programs
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A new, empty database: its address for a program.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn database(&self) -> Result<String> {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("forestage", "postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.address("forestage", &name))
    }

    /// The address of a database for one user.
    #[must_use]
    pub fn address(&self, user: &str, database: &str) -> String {
        let folder = self.folder.as_str().replace('/', "%2F");
        format!("postgres://{user}@{folder}/{database}")
    }

    /// What `psql` says to a query of `user`: unaligned, without a header.
    ///
    /// # Errors
    /// If the query fails.
    pub fn psql(&self, user: &str, database: &str, query: &str) -> Result<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.folder.as_str()])
            .args(["-U", user, "-d", database, "-c", query])
            .output()
            .context("cannot start psql")?;
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Where Debian's package puts the programs: the newest release there is.
fn programs() -> Result<Utf8PathBuf> {
    let releases = Utf8Path::new("/usr/lib/postgresql");
    let newest = releases
        .read_dir_utf8()
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().parse::<u32>().ok()?, entry.into_path())))
        .max();
    match newest {
        Some((_, path)) if path.join("bin/initdb").is_file() => Ok(path.join("bin")),
        _ => bail!(
            "this test needs PostgreSQL: `apt-get install postgresql`, or `cargo xtask setup`"
        ),
    }
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}
