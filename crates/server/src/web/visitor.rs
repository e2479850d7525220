//! Who looks at a page, in which language, and how they like it to look.

use axum::extract::{Form, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use maud::Markup;
use serde::Deserialize;

use super::frame;
use super::login::safe_next;
use super::section::Section;
use super::words::{Language, Words};
use crate::error::Failure;
use crate::people::auth::User;
use crate::people::roles::{Reach, Role};

const LANGUAGE: &str = "forestage-language";
const THEME: &str = "forestage-theme";
const DENSITY: &str = "forestage-density";
/// A year: whoever comes back after the summer finds the pages as they left them.
const REMEMBERED_SECONDS: u32 = 365 * 86_400;

/// Light or dark.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Theme {
    /// As the system is set.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::System, Self::Light, Self::Dark];

    /// As it stands in the cookie and in the page's `data-theme`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// How the pages are to look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// The language.
    pub words: Words,
    /// Light or dark.
    pub theme: Theme,
    /// More rows on a screen.
    pub compact: bool,
}

impl Look {
    /// What the cookies say, else what the browser prefers.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let accept = || {
            let accept = headers.get(header::ACCEPT_LANGUAGE);
            Language::preferred(accept.and_then(|v| v.to_str().ok()).unwrap_or_default())
        };
        let language = cookie(headers, LANGUAGE)
            .and_then(Language::from_code)
            .unwrap_or_else(accept);
        let theme = cookie(headers, THEME).unwrap_or_default();
        Self {
            words: Words(language),
            theme: Theme::ALL
                .into_iter()
                .find(|known| known.key() == theme)
                .unwrap_or_default(),
            compact: cookie(headers, DENSITY) == Some("compact"),
        }
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// Someone who is signed in and looks at a page. Handlers of pages take it as an argument.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Who it is, what they may do, whose machines they see.
    pub user: User,
    /// Their language, as `look.words` has it too.
    pub words: Words,
    /// How they like pages to look.
    pub look: Look,
    /// Path and query of this page.
    pub here: String,
    /// Where the page stands in the navigation.
    pub section: Section,
}

impl Visitor {
    /// An administrator, for the tests of pages and for the gallery.
    #[must_use]
    pub fn sample(words: Words, section: Section) -> Self {
        Self {
            user: User {
                name: "admin".into(),
                role: Role::Admin,
                reach: Reach::Everywhere,
                prestages: Vec::new(),
                scopes: None,
            },
            words,
            look: Look {
                words,
                ..Look::default()
            },
            here: "/".into(),
            section,
        }
    }

    /// A whole page. With `live`, it follows the events of that address.
    #[must_use]
    pub fn page(&self, title: &str, live: Option<&str>, content: &Markup) -> Markup {
        frame::page(self, title, live, content)
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let user = parts.extensions.get::<User>().cloned();
        let user = user.ok_or_else(Failure::unauthorized)?;
        let look = Look::from_headers(&parts.headers);
        let here = parts.uri.path_and_query();
        Ok(Self {
            user,
            words: look.words,
            look,
            here: here.map_or("/", |path| path.as_str()).to_owned(),
            section: parts.extensions.get().copied().unwrap_or_default(),
        })
    }
}

/// The form in the frame.
#[derive(Deserialize)]
pub(super) struct LookForm {
    language: String,
    theme: String,
    #[serde(default)]
    density: String,
    #[serde(default)]
    next: String,
}

/// `POST /look`: remembers in cookies how the pages are to look, and leads back.
pub(super) async fn look(Form(form): Form<LookForm>) -> Response {
    let language = Language::from_code(&form.language).unwrap_or_default();
    let theme = Theme::ALL
        .into_iter()
        .find(|theme| theme.key() == form.theme)
        .unwrap_or_default();
    let density = if form.density == "compact" {
        "compact"
    } else {
        "roomy"
    };
    let cookie = |name, value| {
        let text = format!(
            "{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={REMEMBERED_SECONDS}"
        );
        let value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
        (header::SET_COOKIE, value)
    };
    let cookies = AppendHeaders([
        cookie(LANGUAGE, language.code()),
        cookie(THEME, theme.key()),
        cookie(DENSITY, density),
    ]);
    (cookies, Redirect::to(safe_next(&form.next))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_of(cookie: &str, accept: &str) -> Look {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
        headers.insert(
            header::ACCEPT_LANGUAGE,
            HeaderValue::from_str(accept).unwrap(),
        );
        Look::from_headers(&headers)
    }

    #[test]
    fn cookies_go_before_the_browser() {
        assert_eq!(look_of("", "nb").words, Words::BOKMAL);
        let look = look_of(
            "a=b; forestage-language=en; forestage-theme=dark; forestage-density=compact",
            "nb",
        );
        assert_eq!(
            (look.words, look.theme, look.compact),
            (Words::ENGLISH, Theme::Dark, true)
        );
        let odd = look_of("forestage-language=xx; forestage-theme=\"><script>", "nb");
        assert_eq!((odd.words, odd.theme), (Words::BOKMAL, Theme::System));
    }
}
