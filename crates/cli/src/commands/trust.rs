//! `forestage trust`: what devices are made to trust.

use clap::Subcommand;

use crate::failure::{Outcome, Trying};
use crate::output::Output;
use crate::settings::connect;

/// What devices are made to trust.
#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    /// Show addresses, certificate authority and keys, as baked into boot images
    #[command(after_help = "Example:\n  forestage trust show --json")]
    Show,
}

/// Does what was asked.
pub(crate) fn run(command: &Trust, output: &Output) -> Outcome<()> {
    let Trust::Show = command;
    let trust: wire::boot_config::Trust = connect()?
        .trust()
        .trying(|| "cannot ask the server what devices trust".into())?;
    output.answer(&trust, |look| {
        let title = |text: &str| look.paint.bold(text);
        let lines = |items: &[String]| {
            items
                .iter()
                .map(|item| format!("  {item}\n"))
                .collect::<String>()
        };
        format!(
            "{}\n{}{}\n{}{}\n{}",
            title("Server addresses, tried in order"),
            lines(&trust.server_urls),
            title("Keys that sign bundles (Ed25519)"),
            lines(&trust.bundle_keys),
            title("Certificate authority"),
            trust
                .ca_pem
                .trim_end()
                .lines()
                .map(|line| format!("  {line}\n"))
                .collect::<String>(),
        )
    })
}
