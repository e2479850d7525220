//! The frame around every page: navigation, search, what is set by the visitor, and the document itself.

use std::sync::LazyLock;

use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::layout::{self, icon, logo};
use super::pages::{self, PageRoute};
use super::section::NAVIGATION;
use super::visitor::{Look, Theme, Visitor};
use super::words::{Language, en};

/// The pages that exist: an entry of the navigation without one isn't shown.
static PAGES: LazyLock<Vec<PageRoute>> = LazyLock::new(pages::list);

/// Three lines: the button of the navigation on a phone.
const MENU: &str = "M2.500 4h11M2.500 8h11M2.500 12h11";
/// A person's head and shoulders.
const PERSON: &str = "M8 2.200a2.800 2.800 0 1 1 0 5.600 2.800 2.800 0 0 1 0-5.600ZM2.800 13.800c.5-3 2.600-4.300 5.200-4.300s4.700 1.300 5.200 4.300";

/// A whole page for someone who is signed in. With `live`, the page follows the events of that address.
#[must_use]
pub fn page(visitor: &Visitor, title: &str, live: Option<&str>, content: &Markup) -> Markup {
    let words = visitor.words;
    document(
        visitor.look,
        title,
        live,
        &html! {
            a.skip href="#content" { (words.t("Skip to content")) }
            (navigation(visitor))
            div.stage {
                (top(visitor, live.is_some()))
                @if live.is_some() {
                    div.lost #lost role="alert" hidden {
                        (icon(layout::WARNING)) span { (words.t("Connection lost, retrying")) }
                    }
                }
                main #content tabindex="-1" { (content) }
            }
            div.toasts #toasts role="status" aria-live="polite" {}
            (spoken(visitor))
        },
    )
}

/// The entries that exist and that the visitor may see, by group.
fn entries(visitor: &Visitor) -> Vec<(&'static str, Vec<super::section::Entry>)> {
    let may_see = |address: &str| {
        let page = PAGES.iter().find(|page| page.path == address);
        page.is_some_and(|page| visitor.user.may(page.may))
    };
    let groups = NAVIGATION.iter().map(|(group, entries)| {
        let seen = entries.iter().filter(|(_, address, _)| may_see(address));
        (*group, seen.copied().collect::<Vec<_>>())
    });
    groups.filter(|(_, entries)| !entries.is_empty()).collect()
}

fn navigation(visitor: &Visitor) -> Markup {
    let words = visitor.words;
    html! {
        nav.side #navigation popover aria-label=(words.t("Main")) {
            a.brand href="/" aria-label=(words.t("Forestage, overview")) { (logo()) span { "Forestage" } }
            @for (group, entries) in entries(visitor) {
                @let id = format!("group-{}", group.to_lowercase());
                p.group id=(id) { (words.t(group)) }
                ul aria-labelledby=(id) {
                    @for (section, address, name) in entries {
                        li {
                            a href=(address) aria-current=[(section == visitor.section).then_some("page")] {
                                (words.t(name))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn top(visitor: &Visitor, live: bool) -> Markup {
    let words = visitor.words;
    html! {
        header.top {
            button.quiet.menu type="button" popovertarget="navigation" aria-label=(words.t("Menu")) { (icon(MENU)) }
            a.brand href="/" aria-label=(words.t("Forestage, overview")) { (logo()) span { "Forestage" } }
            button.palette-open type="button" aria-label=(words.t("Go to page or device")) data-palette hidden {
                (icon(layout::SEARCH)) span { (words.t("Go to page or device")) } kbd { "Ctrl K" }
            }
            @if live {
                span.live #live role="status" { span.dot {} span #live-text { (words.t("Not live")) } }
            }
            button.quiet.person type="button" popovertarget="person" aria-label=(visitor.user.name) {
                (icon(PERSON)) span { (visitor.user.name) }
            }
            div.person-menu #person popover { (person(visitor)) }
        }
    }
}

/// What the visitor sets for themselves, and the way out.
fn person(visitor: &Visitor) -> Markup {
    let (words, look) = (visitor.words, visitor.look);
    html! {
        form.stacked method="post" action="/look" {
            input type="hidden" name="next" value=(visitor.here);
            label for="look-language" { (words.t("Language")) }
            select id="look-language" name="language" {
                @for language in Language::ALL {
                    option value=(language.code()) lang=(language.code()) selected[language == words.0] {
                        (language.own_name())
                    }
                }
            }
            label for="look-theme" { (words.t("Colours")) }
            select id="look-theme" name="theme" {
                @for theme in Theme::ALL {
                    option value=(theme.key()) selected[theme == look.theme] { (words.t(theme_word(theme))) }
                }
            }
            label.check {
                input type="checkbox" name="density" value="compact" checked[look.compact];
                span { (words.t("More rows on a screen")) }
            }
            button type="submit" { (words.t("Apply")) }
        }
        form method="post" action="/logout" { button.quiet type="submit" { (words.t("Sign out")) } }
    }
}

const fn theme_word(theme: Theme) -> &'static str {
    match theme {
        Theme::System => en("As the system is set"),
        Theme::Light => en("Light"),
        Theme::Dark => en("Dark"),
    }
}

/// What the scripts say, in the visitor's language.
fn spoken(visitor: &Visitor) -> Markup {
    let words = visitor.words;
    let texts = [
        ("live", words.t("Live")),
        ("not-live", words.t("Not live")),
        ("now", words.t("now")),
        ("seconds-ago", words.t("{n} s ago")),
        ("minutes-ago", words.t("{n} min ago")),
        ("hours-ago", words.t("{n} h ago")),
        ("days-ago", words.t("{n} d ago")),
        ("over", words.t("{n} over")),
        ("done", words.t("Done")),
        ("sending", words.t("Sending …")),
        (
            "unreachable",
            words.t("The server can't be reached. Try again when the line is back."),
        ),
        (
            "signed-out",
            words.t("You are no longer signed in. Sign in again in another tab, then repeat this."),
        ),
        ("refused", words.t("The server did not do it.")),
        ("confirm", words.t("Confirm")),
        ("cancel", words.t("Cancel")),
        ("shown-once", words.t("This is shown only once")),
        ("copy", words.t("Copy")),
        ("close", words.t("Close")),
        ("type", words.t("Type {n} to confirm")),
        ("not-a-number", words.t("This must be a whole number.")),
        (
            "not-minutes",
            words.t("These must be minutes, such as 16 or 1:30."),
        ),
        ("not-json", words.t("This must be JSON.")),
        ("selected", words.t("{n} selected")),
        ("bulk-done", words.t("Done for {n}.")),
        ("bulk-refused", words.t("For {n} it could not be done:")),
        ("bulk-no-run", words.t("it has no run")),
        (
            "bulk-not-shown",
            words.t("it is no longer among the rows that are shown"),
        ),
        ("narrow", words.t("Narrow the list")),
        ("none-found", words.t("Nothing found")),
        ("pages", words.t("Pages")),
        ("devices", words.t("Devices")),
        ("search", words.t("Page, name, serial number or asset tag")),
    ];
    html! {
        template #words { @for (key, text) in texts { span data-key=(key) { (text) } } }
    }
}

/// A page for a screen on the wall: no navigation, dark unless the visitor wants it light, and plain words when it has
/// lost the server.
#[must_use]
pub fn wall(visitor: &Visitor, title: &str, live: &str, content: &Markup) -> Markup {
    let words = visitor.words;
    let theme = match visitor.look.theme {
        Theme::Light => Theme::Light,
        Theme::Dark | Theme::System => Theme::Dark,
    };
    let look = Look {
        theme,
        compact: false,
        ..visitor.look
    };
    document(
        look,
        title,
        Some(live),
        &html! {
            div.wall {
                header.wall-clock {
                    span.live #live role="status" { span.dot {} span #live-text { (words.t("Not live")) } }
                    span data-clock {}
                }
                main #content tabindex="-1" { (content) }
                div.lost #lost role="alert" hidden {
                    (icon(layout::WARNING))
                    span { (words.t("No contact with the server: what stands here may be old.")) }
                }
            }
            (spoken(visitor))
        },
    )
}

/// A page with nothing but a box in the middle: sign-in, and errors for those who aren't signed in.
#[must_use]
pub fn bare_page(look: Look, title: &str, content: &Markup) -> Markup {
    document(
        look,
        title,
        None,
        &html! {
            main.bare #content { div.card { a.brand href="/" { (logo()) span { "Forestage" } } (content) } }
        },
    )
}

/// A page that says what went wrong and what to do.
#[must_use]
pub fn error_page(visitor: Option<&Visitor>, look: Look, title: &str, message: &Markup) -> Markup {
    let words = look.words;
    let content = html! {
        h1 { (title) }
        (message)
    };
    match visitor {
        Some(visitor) => {
            let back = html! { p { a href="/" { (words.t("Back to the overview")) } } };
            let card = html! { div.card.notice-page { (content) (back) } };
            page(visitor, title, None, &card)
        }
        None => {
            let back = html! { p { a.button href="/login" { (words.t("To the sign-in page")) } } };
            bare_page(look, title, &html! { (content) (back) })
        }
    }
}

fn document(look: Look, title: &str, live: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(look.words.0.code()) data-theme=(look.theme.key())
            data-density=[look.compact.then_some("compact")] {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Forestage" }
                link rel="icon" type="image/svg+xml" href=(assets::address("icon.svg"));
                link rel="stylesheet" href=(assets::address("style.css"));
                @for script in ["frame.js", "forms.js", "tables.js"] { script src=(assets::address(script)) defer {} }
                @if live.is_some() { script src=(assets::address("live.js")) defer {} }
            }
            body data-live=[live] { (body) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::super::section::Section;
    use super::super::words::Words;
    use super::*;
    use crate::people::roles::Role;

    fn html(role: Role, here: &str) -> String {
        let mut visitor = Visitor::sample(Words::ENGLISH, Section::Devices);
        visitor.user.role = role;
        visitor.user.name = sample::HOSTILE.into();
        visitor.here = here.to_owned();
        page(
            &visitor,
            "Title",
            Some("/live/overview"),
            &html! { p { "x" } },
        )
        .into_string()
    }

    #[test]
    fn pages_have_nothing_inline() {
        let html = html(Role::Admin, sample::HOSTILE);
        sample::assert_harmless(&html);
        assert!(!html.contains("style=") && !html.contains("<style"));
        assert_eq!(html.matches("<script").count(), 4);
        assert_eq!(html.matches("<script src=\"/assets/").count(), 4);
    }

    #[test]
    fn the_navigation_shows_what_the_visitor_may_see_and_what_is_there() {
        let admin = html(Role::Admin, "/devices");
        assert!(admin.contains(r#"<a href="/devices" aria-current="page">Devices</a>"#));
        assert!(admin.contains(r#"<a href="/packages">"#));
        let factory = html(Role::FactoryOperator, "/devices");
        assert!(!factory.contains(r#"<a href="/devices""#));
    }
}
