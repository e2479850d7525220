//! What a person is asked at a terminal; scripts answer by variables of the environment and by `--yes`.

use std::io::Write as _;

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
