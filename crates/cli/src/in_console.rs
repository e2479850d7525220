//! Where the console does what a command does. The reference says it of each command, and a test compares it with the
//! table of pages: nothing is done by commands alone without a reason.

/// Where a command is found in the console.
pub(crate) enum InConsole {
    /// On this page.
    Page(&'static str),
    /// Nowhere, and why.
    Nowhere(&'static str),
}

use InConsole::{Nowhere, Page};

/// Every command, in the order of the reference.
#[rustfmt::skip]
const COMMANDS: &[(&str, InConsole)] = &[
    ("serve", Nowhere("it is the server itself")),
    ("backup key", Nowhere("the key that opens backups is never on the server")),
    ("backup create", Nowhere("it reads the data folder, keys too, which no account may")),
    ("backup verify", Nowhere("it needs the key, which is never on the server")),
    ("backup restore", Nowhere("there is no server yet")),
    ("login", Page("/login")),
    ("logout", Page("/login")),
    ("status", Page("/")),
    ("trust show", Nowhere("whoever must not trust the browser yet reads it on the server")),
    ("trust list", Page("/trust")),
    ("trust make-key", Nowhere("the private half is made where no server is")),
    ("trust add", Page("/trust")),
    ("trust use", Page("/trust")),
    ("trust retire", Page("/trust")),
    ("os-image build", Nowhere("it runs programs on your own machine")),
    ("boot-image build", Nowhere("it runs programs on your own machine")),
    ("secure-boot create-keys", Nowhere("the keys never leave your own machine")),
    ("package import", Nowhere("it captures files of your own machine, often many gigabytes")),
    ("package list", Page("/packages")),
    ("content stats", Page("/content")),
    ("content verify", Page("/content")),
    ("content gc", Page("/content")),
    ("content repair", Nowhere("it reads another library on your own machine")),
    ("content compare", Nowhere("it compares libraries on your own machine; it asks no server")),
    ("sequence lint", Page("/sequences/{name}")),
    ("sequence put", Page("/sequences/{name}")),
    ("sequence list", Page("/sequences")),
    ("sequence show", Page("/sequences/{name}")),
    ("sequence plan", Page("/devices/{serial}/plan")),
    ("sequence schema", Nowhere("editors read it; it asks no server")),
    ("prestage define", Page("/prestages")),
    ("prestage plan", Page("/prestages/{name}")),
    ("prestage build", Page("/prestages/{name}")),
    ("prestage list", Page("/prestages")),
    ("prestage diff", Page("/prestages/{name}")),
    ("prestage drift", Page("/prestages/{name}")),
    ("prestage download", Nowhere("a bundle is gigabytes, and is verified while it comes")),
    ("prestage root", Page("/prestages/{name}")),
    ("prestage sign", Nowhere("the private half of the key is where no server is")),
    ("prestage add-signature", Page("/prestages/{name}")),
    ("medium build", Nowhere("it writes a medium on your own machine")),
    ("receipt import", Page("/receipts/import")),
    ("receipt list", Page("/receipts")),
    ("receipt reconcile", Page("/imports/{id}/receipts")),
    ("asset import", Page("/imports")),
    ("asset export", Page("/devices")),
    ("import list", Page("/imports")),
    ("import show", Page("/imports/{id}")),
    ("import accept", Page("/imports/{id}")),
    ("import discard", Page("/imports/{id}")),
    ("import undo", Page("/imports/{id}")),
    ("import profile", Page("/imports/{id}")),
    ("quarantine list", Page("/quarantine")),
    ("quarantine decide", Page("/quarantine")),
    ("quarantine undo", Page("/quarantine")),
    ("site set", Page("/sites")),
    ("site list", Page("/sites")),
    ("site show", Page("/sites/{code}")),
    ("site remove", Page("/sites/{code}")),
    ("site adopt", Page("/sites/{code}")),
    ("class set", Page("/classes")),
    ("class list", Page("/classes")),
    ("class remove", Page("/classes")),
    ("model list", Page("/models")),
    ("model alias", Page("/models")),
    ("model aliases", Page("/models")),
    ("model unalias", Page("/models")),
    ("collection create", Page("/collections")),
    ("collection list", Page("/collections")),
    ("collection show", Page("/collections/{name}")),
    ("collection set-rule", Page("/collections/{name}")),
    ("collection preview", Page("/collections/{name}")),
    ("collection add", Page("/devices/{serial}")),
    ("collection remove", Page("/collections/{name}")),
    ("collection exclude", Page("/collections/{name}")),
    ("collection include", Page("/collections/{name}")),
    ("variable set", Page("/variables")),
    ("variable unset", Page("/variables")),
    ("variable list", Page("/variables")),
    ("deployment create", Page("/deployments/new")),
    ("deployment change", Page("/deployments/{name}/change")),
    ("deployment list", Page("/deployments")),
    ("deployment preview", Page("/deployments/new")),
    ("deployment status", Page("/deployments/{name}")),
    ("deployment stop", Page("/deployments/{name}")),
    ("deployment resume", Page("/deployments/{name}")),
    ("deployment raise-cap", Page("/deployments/{name}")),
    ("deployment approve", Page("/deployments/{name}")),
    ("deployment decline", Page("/deployments/{name}")),
    ("deployment start", Page("/devices/{serial}")),
    ("deployment cancel", Page("/devices/{serial}")),
    ("deployment uncancel", Page("/deployments/{name}")),
    ("deployment retry-failed", Page("/deployments/{name}")),
    ("warrant request", Page("/deployments/{name}")),
    ("warrant sign", Nowhere("the private half of the key is where no server is")),
    ("warrant add", Page("/deployments/{name}")),
    ("device list", Page("/devices")),
    ("device name", Page("/device-names")),
    ("device show", Page("/devices/{serial}")),
    ("device set", Page("/devices/{serial}")),
    ("device retire", Page("/devices/{serial}")),
    ("device stolen", Page("/devices/{serial}")),
    ("device restore", Page("/devices/{serial}")),
    ("device reset-key", Page("/devices/{serial}")),
    ("run list", Page("/runs")),
    ("run show", Page("/runs/{run}")),
    ("run watch", Page("/runs/{run}")),
    ("run stop", Page("/runs/{run}")),
    ("run retry", Page("/runs/{run}")),
    ("run rerun", Page("/runs/{run}")),
    ("report rollout", Page("/insights")),
    ("report failures", Page("/insights")),
    ("report steps", Page("/insights")),
    ("report days", Page("/insights")),
    ("report hours", Page("/insights")),
    ("view list", Page("/")),
    ("view show", Page("/")),
    ("view save", Page("/")),
    ("view delete", Page("/")),
    ("pupil import", Page("/pupils")),
    ("pupil list", Page("/pupils")),
    ("pupil show", Page("/pupils/{id}")),
    ("pupil export", Page("/pupils/{id}")),
    ("pupil erase", Page("/pupils/{id}")),
    ("pupil settings", Page("/pupils")),
    ("assignment list", Page("/pupils/class")),
    ("assignment assign", Page("/assign")),
    ("assignment return", Page("/assign")),
    ("assignment class", Page("/pupils/class")),
    ("assignment import", Page("/pupils")),
    ("assignment history", Page("/pupils/history")),
    ("user add", Page("/users")),
    ("user list", Page("/users")),
    ("user set-role", Page("/users")),
    ("user reset-password", Page("/users")),
    ("user remove", Page("/users")),
    ("token create", Page("/tokens")),
    ("token list", Page("/tokens")),
    ("token revoke", Page("/tokens")),
    ("audit list", Page("/audit")),
    ("audit verify", Page("/audit")),
    ("simulate assets", Nowhere("it asks no server")),
    ("simulate run", Nowhere("it is a fleet of its own")),
    ("secret set", Page("/secrets")),
    ("secret list", Page("/secrets")),
    ("secret remove", Page("/secrets")),
    ("webhook add", Page("/webhooks")),
    ("webhook list", Page("/webhooks")),
    ("webhook change", Page("/webhooks/{id}")),
    ("webhook new-secret", Page("/webhooks/{id}")),
    ("webhook test", Page("/webhooks/{id}")),
    ("webhook log", Page("/webhooks/{id}")),
    ("webhook resend", Page("/webhooks/{id}")),
    ("webhook pause", Page("/webhooks/{id}")),
    ("webhook resume", Page("/webhooks/{id}")),
    ("webhook remove", Page("/webhooks/{id}")),
    ("completion", Nowhere("it is for your shell; it asks no server")),
];

/// Where a command is found in the console.
pub(crate) fn of(command: &str) -> &'static InConsole {
    let known = COMMANDS.iter().find(|(name, _)| *name == command);
    let (_, place) = known.unwrap_or_else(|| {
        panic!("say in `in_console.rs` which page does what `forestage {command}` does, or why none does")
    });
    place
}

#[test]
fn every_page_that_is_named_is_there_and_every_command_too() {
    use clap::CommandFactory as _;
    let pages = server::web::pages::list();
    let program = crate::Cli::command();
    for (command, place) in COMMANDS {
        let found = command
            .split(' ')
            .try_fold(&program, |command, word| command.find_subcommand(word));
        assert!(found.is_some(), "there is no `forestage {command}`");
        match place {
            Page(path) => {
                let is_there = pages.iter().any(|page| page.path == *path);
                assert!(is_there, "`forestage {command}`: there is no page {path}");
            }
            Nowhere(reason) => assert!(!reason.is_empty() && !reason.ends_with('.')),
        }
    }
}
