//! What a person is asked at a terminal; scripts answer by variables of the environment and by `--yes`.

use std::io::{IsTerminal as _, Read as _, Write as _};

use crate::failure::{Failure, Outcome};

/// From the environment (for scripts), or typed without being shown. `what` is what it is called in an error.
pub(crate) fn secret(variable: &str, prompt: &str, what: &str) -> Outcome<String> {
    if let Ok(secret) = std::env::var(variable) {
        return Ok(secret);
    }
    rpassword::prompt_password(prompt).map_err(|error| {
        Failure::usage(format!("cannot ask for the {what}"))
            .because(error)
            .hint(format!("without a terminal, set {variable}"))
    })
}

/// A secret of at most `bytes_max` bytes: typed without being shown, or read from standard input. Editors and `echo` end a text
/// with a line break, which isn't part of it.
pub(crate) fn typed_or_read(prompt: &str, bytes_max: usize) -> Outcome<String> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return rpassword::prompt_password(prompt)
            .map_err(|error| Failure::usage("cannot ask for the secret").because(error));
    }
    let mut text = String::new();
    // One more for the line break, and one to see that it is longer.
    let limit = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(2);
    stdin
        .take(limit)
        .read_to_string(&mut text)
        .map_err(|error| {
            Failure::usage("cannot read the secret from standard input")
                .because(error)
                .hint("a secret is text in UTF-8")
        })?;
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    if secret.len() > bytes_max {
        return Err(Failure::usage(format!(
            "the secret is longer than {bytes_max} bytes"
        )));
    }
    Ok(secret.to_owned())
}

/// Asks until somebody says yes or anything else; nothing is done without a yes.
pub(crate) fn confirmed(question: &str, is_said: bool) -> Outcome<()> {
    if is_said {
        return Ok(());
    }
    let mut answer = String::new();
    let mut stderr = std::io::stderr();
    let asked = write!(stderr, "{question} [yes/no] ")
        .and_then(|()| stderr.flush())
        .and_then(|()| std::io::stdin().read_line(&mut answer));
    match asked {
        Ok(0) | Err(_) => {
            Err(Failure::usage("nobody is there to ask").hint("without a terminal, say `--yes`"))
        }
        Ok(_) if answer.trim() == "yes" => Ok(()),
        Ok(_) => Err(Failure::refused(
            "nothing was done: the answer was not `yes`",
        )),
    }
}
