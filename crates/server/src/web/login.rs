//! The sign-in page, and the first sign-in, at which the one-time password is replaced.

use maud::{Markup, html};

use super::visitor::Look;
use super::words::{Words, en};
use super::{frame, layout};
use crate::limits::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
use crate::routes::page::encode;

/// What the sign-in page asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// User and password.
    SignIn,
    /// The one-time password again, and a new password twice.
    NewPassword,
}

/// The sign-in page. `problem` says why the last attempt was refused; no password is ever written into the page.
#[must_use]
pub fn login_page(
    look: Look,
    stage: Stage,
    user: &str,
    next: &str,
    problem: Option<&str>,
) -> Markup {
    login_page_beside(None, look, stage, user, next, problem)
}

/// The sign-in page beside an identity provider of this name, if there is one.
#[must_use]
pub fn login_page_beside(
    provider: Option<&str>,
    look: Look,
    stage: Stage,
    user: &str,
    next: &str,
    problem: Option<&str>,
) -> Markup {
    let words = look.words;
    let (title, button) = match stage {
        Stage::SignIn => (words.t("Sign in"), words.t("Sign in")),
        Stage::NewPassword => (words.t("Choose a password"), words.t("Save and sign in")),
    };
    let content = html! {
        h1 { (title) }
        @if let Some(problem) = problem {
            p.problem role="alert" { (layout::icon(layout::WARNING)) span { (problem) } }
        }
        @if stage == Stage::NewPassword {
            p.muted {
                (words.t("You signed in with the one-time password. Choose one of your own; the one-time password \
                          then stops working."))
            }
        }
        @if let (Stage::SignIn, Some(provider)) = (stage, provider) {
            p { a.button href={ "/login/oidc?next=" (encode(safe_next(next))) } {
                (words.fill("Sign in with {provider}", &[("provider", &provider)]))
            } }
        }
        form.stacked method="post" action="/login" {
            input type="hidden" name="next" value=(safe_next(next));
            (fields(words, stage, user))
            button.primary type="submit" { (button) }
        }
        @if stage == Stage::SignIn {
            p.muted.note {
                (words.t("For the first sign-in, use the one-time password that the server printed when it started."))
            }
        }
    };
    frame::bare_page(look, title, &content)
}

fn fields(words: Words, stage: Stage, user: &str) -> Markup {
    let field = |label: &'static str, name, kind, autocomplete, focus| {
        field(words.t(label), name, kind, autocomplete, focus)
    };
    let first = stage == Stage::SignIn && user.is_empty();
    html! {
        label for="user" { (words.t("User")) }
        input id="user" name="user" type="text" autocomplete="username" value=(user) required autofocus[first]
            maxlength=(PASSWORD_BYTES_MAX) autocapitalize="none" spellcheck="false";
        @match stage {
            Stage::SignIn => (field(en("Password"), "password", "password", "current-password", !first)),
            Stage::NewPassword => {
                (field(en("One-time password"), "password", "password", "current-password", true))
                (field(en("New password"), "new_password", "password", "new-password", false))
                p.note.muted {
                    (words.fill("At least {n} characters; a sentence is fine.", &[("n", &PASSWORD_CHARS_MIN)]))
                }
                (field(en("New password again"), "repeated", "password", "new-password", false))
            }
        }
    }
}

fn field(label: &str, name: &str, kind: &str, autocomplete: &str, focus: bool) -> Markup {
    html! {
        label for=(name) { (label) }
        input id=(name) name=(name) type=(kind) autocomplete=(autocomplete) value="" required autofocus[focus]
            maxlength=(PASSWORD_BYTES_MAX) autocapitalize="none" spellcheck="false";
    }
}

/// Where to go after the sign-in: a path on this server, or the overview. Never another host: `//evil.example` and
/// `/\evil.example` are hosts to a browser.
#[must_use]
pub fn safe_next(next: &str) -> &str {
    let bytes = next.as_bytes();
    let local = bytes.first() == Some(&b'/')
        && !matches!(bytes.get(1), Some(b'/' | b'\\'))
        && bytes.len() <= 512
        && bytes
            .iter()
            .all(|&byte| byte.is_ascii_graphic() && byte != b'\\');
    if local { next } else { "/" }
}

/// What is wrong with a new password, if anything.
#[must_use]
pub fn password_problem(words: Words, old: &str, new: &str, repeated: &str) -> Option<String> {
    if new != repeated {
        Some(words.t("The two new passwords differ.").to_owned())
    } else if new.chars().count() < PASSWORD_CHARS_MIN {
        Some(words.fill(
            "The new password is too short: it needs at least {n} characters.",
            &[("n", &PASSWORD_CHARS_MIN)],
        ))
    } else if new.len() > PASSWORD_BYTES_MAX {
        Some(words.fill(
            "The new password is too long: {n} bytes at most.",
            &[("n", &PASSWORD_BYTES_MAX)],
        ))
    } else if new == old {
        Some(
            words
                .t("The new password must differ from the one-time password.")
                .to_owned(),
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn only_local_paths_are_gone_to() {
        for good in ["/", "/runs/1", "/?site=BJO&text=%C3%A6"] {
            assert_eq!(safe_next(good), good);
        }
        for bad in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "javascript:x",
            "/a\nb",
            "/a\\b",
        ] {
            assert_eq!(safe_next(bad), "/", "{bad:?}");
        }
        assert_eq!(safe_next(&format!("/{}", "a".repeat(600))), "/");
    }

    #[test]
    fn new_passwords_are_checked() {
        let long = "a fir is not a spruce";
        assert_eq!(password_problem(Words::ENGLISH, "old", long, long), None);
        assert!(password_problem(Words::ENGLISH, "old", long, "another").is_some());
        assert!(password_problem(Words::ENGLISH, "old", "short", "short").is_some());
        assert!(password_problem(Words::ENGLISH, long, long, long).is_some());
        let huge = "x".repeat(PASSWORD_BYTES_MAX + 1);
        assert!(password_problem(Words::ENGLISH, "old", &huge, &huge).is_some());
    }

    #[test]
    fn the_page_repeats_the_user_as_text_and_no_password() {
        let html = login_page(
            Look::default(),
            Stage::NewPassword,
            sample::HOSTILE,
            sample::HOSTILE,
            Some(sample::HOSTILE),
        )
        .into_string();
        sample::assert_harmless(&html);
        assert_eq!(html.matches("type=\"password\"").count(), 3);
        assert_eq!(
            html.matches("value=\"\"").count(),
            3,
            "password fields are empty"
        );
    }
}
