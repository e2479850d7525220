//! `forestage secure-boot`: the keys with which firmware starts our boot images and nobody else's.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use media::error::MediaError;
use media::secure_boot::{KeySet, MadeKeys, create_keys};

use crate::failure::{Failure, Outcome, Trying};
use crate::output::Output;

/// Start with Secure Boot and your own keys.
#[derive(Debug, Subcommand)]
pub(crate) enum SecureBoot {
    /// Make the keys of your machines' firmware
    ///
    /// Makes a platform key (PK), a key exchange key (KEK) and the key that signs boot images (db), each with a certificate,
    /// and the files that firmware takes for them. Works offline; no server learns the keys. Keep the folder where the
    /// boot images are built, and a copy locked away: whoever has it can sign what your machines start.
    #[command(after_help = "Example:\n\
            \x20 forestage secure-boot create-keys keys/ --name \"Ås kommune\"\n\
            \x20 forestage boot-image build --agent forestage-agent --output boot-image/ \\\n\
            \x20     --sign-key keys/db.key --sign-certificate keys/db.pem")]
    CreateKeys(CreateKeys),
}

/// `secure-boot create-keys`
#[derive(Debug, Args)]
pub(crate) struct CreateKeys {
    /// The folder to make
    folder: Utf8PathBuf,
    /// Whose keys they are, as firmware will show it
    #[arg(long, value_name = "NAME", default_value = "Forestage")]
    name: String,
    /// How long the certificates are good for; firmware doesn't look
    #[arg(long, value_name = "DAYS", default_value_t = 7300, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// A certificate (PEM or DER) whose holder's programs start, too, such as Microsoft's; may be repeated
    #[arg(long, value_name = "FILE")]
    also: Vec<Utf8PathBuf>,
    /// Leave out Debian's certificate: Debian's kernels, so an installed Debian, won't start
    #[arg(long)]
    without_debian: bool,
}

/// Does what was asked.
pub(crate) fn run(command: &SecureBoot, output: &Output) -> Outcome<()> {
    let SecureBoot::CreateKeys(create) = command;
    let set = KeySet {
        name: &create.name,
        days: create.days,
        with_debian: !create.without_debian,
        also: &create.also,
    };
    let what = || format!("cannot make the keys {}", create.folder);
    let made = match create_keys(&set, &create.folder) {
        Err(error @ MediaError::Exists { .. }) => {
            return Err(Failure::refused(what()).because(error));
        }
        made => made.trying(what)?,
    };
    output.answer(&made, |_| text(&made))
}

fn text(made: &MadeKeys) -> String {
    let mut text = format!(
        "{}: PK, KEK and db, owner {}\nwhat starts is signed by\n",
        made.folder, made.owner
    );
    for name in &made.starts {
        text.push_str(&format!("  {name}\n"));
    }
    text.push_str("the .key files are secret; keep a copy of the folder locked away\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_whose_programs_start_and_what_to_keep() {
        let made = MadeKeys {
            folder: "keys".into(),
            owner: uuid::Uuid::from_u128(7),
            starts: vec!["CN=Ås db".into(), "CN=Debian Secure Boot CA".into()],
            files: vec![],
        };
        insta::assert_snapshot!(text(&made), @r"
        keys: PK, KEK and db, owner 00000000-0000-0000-0000-000000000007
        what starts is signed by
          CN=Ås db
          CN=Debian Secure Boot CA
        the .key files are secret; keep a copy of the folder locked away
        ");
    }
}
