//! Signing in at an identity provider that isn't ours, in a real browser: from the link on the sign-in page to the page
//! that was wanted, and what must not get in.
//!
//! The provider is `oidc-provider-mock`, which is made of Authlib and Flask, with all releases pinned in
//! `requirements.txt`.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use camino::Utf8Path;
use serde_json::json;

use crate::browser::chromium::Browser;
use crate::{console, guides, python};

const REQUIREMENTS: &str = include_str!("requirements.txt");
/// How long the provider may take to start.
const READY_MAX: Duration = Duration::from_secs(60);

/// People as the provider knows them: who they are, and their groups.
const PEOPLE: [(&str, &[&str]); 3] = [
    ("ingrid", &["alle", "it-drift"]),
    ("kari", &["alle", "skoleadmin-bjo"]),
    ("per", &["alle"]),
];

/// Walks every sign-in.
pub(crate) fn run() -> Result<()> {
    let root = guides::root();
    let folder = root.join("target/oidc");
    std::fs::create_dir_all(&folder)?;
    let provider = Provider::start(&folder)?;
    let config = folder.join("oidc.yaml");
    std::fs::write(&config, provider.config())?;
    std::fs::write(folder.join("oidc-secret"), "not checked by this provider\n")?;
    let options = ["--oidc", config.as_str()];
    let world = guides::World::start_with(
        root,
        &guides::program()?,
        "oidc",
        guides::ANY_PORT,
        &options,
    )?;
    world.run_script("forestage site set BJO --name 'Bjørnøya skole'")?;
    let mut walk = Walk {
        browser: Browser::start(&folder)?,
        url: world.url(),
        provider: &provider.issuer,
    };
    walk.an_administrator_gets_in_and_out()?;
    walk.a_school_administrator_is_kept_to_their_role()?;
    walk.nobody_else_gets_in()?;
    world.run_script(
        "forestage audit list --who ingrid --action signed-in | grep ingrid >/dev/null\n\
         test \"$(forestage --json user list | jq -r '.[] | select(.name == \"kari\") | .role + \" \" + .site')\" = \
         'school-admin BJO'\n\
         forestage --json user list | jq -e 'all(.name != \"per\")' >/dev/null\n\
         forestage audit verify",
    )?;
    console::say("signing in at an identity provider: 3 people, 6 ways");
    Ok(())
}

/// A browser, and both ends of a sign-in.
struct Walk<'a> {
    browser: Browser,
    url: &'a str,
    provider: &'a str,
}

impl Walk<'_> {
    fn an_administrator_gets_in_and_out(&mut self) -> Result<()> {
        self.sign_in_as("ingrid", "/users")?;
        self.wait_for("/users", "Users").context(
            "an administrator of the provider's doesn't get to the page that was wanted",
        )?;
        self.browser.go(&format!("{}/account", self.url))?;
        self.says("ingrid")?;
        self.says("Administrator")?;
        self.says(self.provider)?;
        self.browser
            .value("document.querySelector('form[action=\"/logout\"]').requestSubmit()")?;
        self.browser
            .wait("location.pathname === '/login'")
            .context("signing out doesn't lead to the sign-in page")?;
        self.is_signed_out()
    }

    fn a_school_administrator_is_kept_to_their_role(&mut self) -> Result<()> {
        self.sign_in_as("kari", "/account")?;
        self.wait_for("/account", "School administrator")?;
        self.says("BJO")?;
        let status = "fetch('/users').then(answer => answer.status)";
        let status = self.browser.value(status)?;
        ensure!(
            status == 403,
            "a school administrator got {status} for /users"
        );
        let out = "fetch('/logout', { method: 'POST' }).then(answer => answer.ok)";
        self.browser.value(out)?;
        self.is_signed_out()
    }

    fn nobody_else_gets_in(&mut self) -> Result<()> {
        self.sign_in_as("per", "/")?;
        self.wait_for("/login/oidc/back", "in no group that may use Forestage")?;
        // The same answer of the provider once more, and one that this browser never asked for.
        self.browser.value("location.reload()")?;
        self.wait_for("/login/oidc/back", "used already")?;
        self.browser
            .go(&format!("{}/login/oidc/back?state=1&code=1", self.url))?;
        self.says("not begun in this browser")?;
        self.go_to_provider("/")?;
        self.browser
            .value("document.querySelector('button[value=\"deny\"]').click()")?;
        // This provider forgets the state when it refuses, which makes it an answer to nobody.
        self.wait_for("/login/oidc/back", "egin again at the sign-in page")?;
        self.is_signed_out()
    }

    /// Follows the link on the sign-in page.
    fn go_to_provider(&mut self, next: &str) -> Result<()> {
        self.browser
            .go(&format!("{}/login?next={next}", self.url))?;
        self.says("the county's account")?;
        self.browser
            .value("document.querySelector('a[href^=\"/login/oidc\"]').click()")?;
        let there = format!(
            "location.origin === {} && document.querySelector('input[name=sub]') !== null",
            json!(self.provider)
        );
        self.browser
            .wait(&there)
            .context("the link on the sign-in page doesn't lead to the provider")
    }

    fn sign_in_as(&mut self, name: &str, next: &str) -> Result<()> {
        self.go_to_provider(next)?;
        self.browser
            .value("document.querySelector('input[name=sub]').focus()")?;
        self.browser.type_text(name)?;
        self.browser.press("Enter")
    }

    fn wait_for(&mut self, path: &str, text: &str) -> Result<()> {
        let there = format!(
            "location.href.startsWith({}) && document.readyState === 'complete' && \
             document.body.textContent.includes({})",
            json!(format!("{}{path}", self.url)),
            json!(text)
        );
        let waited = self.browser.wait(&there);
        if waited.is_err() {
            let shown = self
                .browser
                .value("location + ' ' + document.body.innerText")?;
            return waited.with_context(|| format!("the browser shows {shown}"));
        }
        Ok(())
    }

    fn says(&mut self, text: &str) -> Result<()> {
        let shown = self.browser.value("document.body.textContent")?;
        let shown = shown.as_str().unwrap_or_default();
        ensure!(shown.contains(text), "the page doesn't say {text}: {shown}");
        Ok(())
    }

    fn is_signed_out(&mut self) -> Result<()> {
        self.browser.go(&format!("{}/login", self.url))?;
        let status = "fetch('/api/v1/me').then(answer => answer.status)";
        let status = self.browser.value(status)?;
        ensure!(
            status == 401,
            "who is signed out gets {status} for their account"
        );
        Ok(())
    }
}

/// The identity provider, which ends with this.
struct Provider {
    process: Child,
    issuer: String,
}

impl Provider {
    fn start(folder: &Utf8Path) -> Result<Self> {
        let program = python::program(folder, "oidc-provider-mock", REQUIREMENTS)?;
        // It can't be asked which port it got, so it is given one that was free just now.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = std::fs::File::create(folder.join("provider.log"))?;
        let mut command = Command::new(&program);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        for (name, groups) in PEOPLE {
            let claims = json!({ "sub": name, "preferred_username": name, "groups": groups });
            command.args(["--user-claims", &claims.to_string()]);
        }
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let mut provider = Self {
            process,
            issuer: format!("http://127.0.0.1:{port}"),
        };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = provider.process.try_wait()? {
                bail!("the identity provider ended with {status}: see {folder}/provider.log");
            }
            ensure!(
                started.elapsed() < READY_MAX,
                "the identity provider doesn't get ready: see {folder}/provider.log"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(provider)
    }

    /// What `forestage serve --oidc` is given.
    fn config(&self) -> String {
        format!(
            "issuer: {}\nclient-id: forestage\nclient-secret-file: oidc-secret\ntitle: the county's account\nroles:\n  \
             - {{ group: it-drift, role: admin }}\n  - {{ group: skoleadmin-bjo, role: school-admin, site: BJO }}\n",
            self.issuer
        )
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // It may have ended by itself, which its log tells.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
