//! Accounts, API tokens, one's own account, the audit. Whatever is changed here is changed by the admin API.

use axum::extract::{Query, State};
use maud::{Markup, html};
use serde::Deserialize;
use wire::admin_api::{AuditRow, DeviceState};
use wire::audit::{AuditHead, Broken};
use wire::people::{Me, Role, TOKEN_DAYS, TOKEN_DAYS_MAX, TokenRow, UserRow};

use super::draw;
use super::layout::{self, or_dash};
use super::visitor::Visitor;
use super::words::{Words, en};
use super::{assets, audit_words};
use crate::days::midnight;
use crate::error::Failure;
use crate::people::audit::{Noted, Verified, Wanted, page_query};
use crate::people::roles::May;
use crate::routes::page::{encode, query_of};
use crate::state::AppState;

type Page = Result<Markup, Failure>;

/// Rows of the audit on one page.
const AUDIT_ROWS: usize = 100;

/// `GET /users`
pub(super) async fn show_users(visitor: Visitor, State(state): State<AppState>) -> Page {
    let users = state.user_rows().await?;
    let sites: Vec<String> =
        sqlx::query_scalar("SELECT code FROM sites WHERE code <> '' ORDER BY code")
            .fetch_all(state.db().read())
            .await
            .map_err(|source| Failure::Database {
                what: "read the sites",
                source,
            })?;
    let content = users_page(visitor.words, &users, &sites, &visitor.user.name);
    Ok(visitor.page(visitor.words.t("Users"), None, &content))
}

/// `GET /tokens`
pub(super) async fn show_tokens(visitor: Visitor, State(state): State<AppState>) -> Page {
    let tokens = state.token_rows(&visitor.user).await?;
    let scopes: Vec<&str> = May::SCOPES
        .iter()
        .filter(|may| visitor.user.may(**may))
        .map(|may| may.name())
        .collect();
    let content = tokens_page(visitor.words, &tokens, &scopes);
    Ok(visitor.page(visitor.words.t("Tokens"), None, &content))
}

/// `GET /account`
pub(super) async fn show_account(visitor: Visitor, State(state): State<AppState>) -> Page {
    let me = state.me(&visitor.user).await?;
    let content = account_page(visitor.words, &me);
    Ok(visitor.page(visitor.words.t("My account"), None, &content))
}

/// What of the audit is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuditQuery {
    who: String,
    action: String,
    address: String,
    text: String,
    /// The first day, and the last.
    since: String,
    until: String,
    cursor: Option<i64>,
    /// Anything but nothing: go along the chain.
    verify: String,
}

/// `GET /audit`
pub(super) async fn show_audit(
    visitor: Visitor,
    State(state): State<AppState>,
    Query(query): Query<AuditQuery>,
    Query(noted): Query<Noted>,
) -> Page {
    let wanted = Wanted {
        who: query.who.clone(),
        action: query.action.clone(),
        address: query.address.trim().to_owned(),
        text: query.text.clone(),
        from_ms: midnight(&query.since, 0)?,
        to_ms: midnight(&query.until, 1)?,
        ..Wanted::default()
    };
    let (rows, next) = state.audit_page(&wanted, query.cursor, AUDIT_ROWS).await?;
    let verified = if query.verify.is_empty() {
        None
    } else {
        let noted = noted.head()?;
        Some((noted, state.verify_audit(noted).await?))
    };
    let csv = query_of(&page_query(&wanted));
    let content = audit_page(visitor.words, &rows, &query, &csv, next, verified.as_ref());
    Ok(visitor.page(visitor.words.t("Audit"), None, &content))
}

/// The word of a role, to be translated.
const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Admin => en("Administrator"),
        Role::SchoolAdmin => en("School administrator"),
        Role::AssetClerk => en("Asset clerk"),
        Role::FactoryOperator => en("Factory operator"),
        Role::Viewer => en("Viewer"),
    }
}

fn head(title: &str, count: &str) -> Markup {
    draw::head(&[], title, count, &html! {})
}

fn table(
    words: Words,
    title: &str,
    columns: &[&'static str],
    numbers: &[usize],
    rows: &[Markup],
) -> Markup {
    let columns: Vec<&str> = columns.iter().map(|column| words.t(column)).collect();
    draw::table(title, &columns, numbers, rows)
}

/// What an account is: the fields that a new one and a changed one have in common. `id` sets one form's fields apart.
fn place_fields(
    words: Words,
    id: &str,
    sites: &[String],
    role: Role,
    site: &str,
    prestages: &str,
) -> Markup {
    html! {
        label for={ "role" (id) } { (words.t("Role")) }
        select id={ "role" (id) } name="role" {
            @for one in Role::ALL { option value=(one) selected[one == role] { (words.t(role_word(one))) } }
        }
        label for={ "site" (id) } { (words.t("Site")) }
        select id={ "site" (id) } name="site" {
            option value="" { (words.t("All sites")) }
            @for one in sites { option value=(one) selected[one == site] { (one) } }
        }
        label for={ "prestages" (id) } { (words.t("Prestages, for a factory operator")) }
        input id={ "prestages" (id) } name="prestages" value=(prestages) data-type="list" autocomplete="off" spellcheck="false";
    }
}

fn users_page(words: Words, users: &[UserRow], sites: &[String], own: &str) -> Markup {
    let title = words.t("Users");
    let columns = [
        en("Name"),
        en("Role"),
        en("Site"),
        en("Prestages"),
        en("Signs in"),
        en("Last used"),
        en("Actions"),
    ];
    let rows: Vec<Markup> = users
        .iter()
        .enumerate()
        .map(|(index, user)| user_row(words, index, user, sites, own))
        .collect();
    html! {
        (head(title, &words.number(users.len() as u64)))
        (table(words, title, &columns, &[], &rows))
        section.card {
            h2 { (words.t("New account")) }
            p.muted { (words.t("It gets a one-time password, which is shown once. They choose their own when they sign in.")) }
            form.stacked data-api="POST /api/v1/users" data-secret="one-time-password" {
                label for="name" { (words.t("Name")) }
                input id="name" name="name" required maxlength="100" autocomplete="off" autocapitalize="none" spellcheck="false";
                (place_fields(words, "", sites, Role::Viewer, "", ""))
                button.primary type="submit" { (words.t("Make the account")) }
            }
        }
        script src=(assets::address("people.js")) defer {}
    }
}

fn user_row(words: Words, index: usize, user: &UserRow, sites: &[String], own: &str) -> Markup {
    let path = format!("/api/v1/users/{}", encode(&user.name));
    let prestages: Vec<&str> = user.prestages.iter().map(|name| name.as_str()).collect();
    let prestages = prestages.join(", ");
    html! {
        th scope="row" { (user.name) @if !user.display.is_empty() { " " span.muted { (user.display) } } }
        td { (words.t(role_word(user.role))) }
        td { (or_dash(&user.site)) }
        td { (or_dash(&prestages)) }
        td {
            @if !user.issuer.is_empty() { (user.issuer) }
            @else if user.one_time { (words.t("not yet")) }
            @else { (words.t("with a password")) }
        }
        td { @match user.last_used_at_ms { Some(at) => (words.time(at)), None => "—" } }
        td {
            div.buttons {
                @if user.issuer.is_empty() {
                    button type="button" data-api={ "POST " (path) "/reset-password" } data-secret="one-time-password"
                        data-confirm=(words.fill("Give {name} a new password? Their sessions and tokens end at once.", &[("name", &user.name)])) {
                        (words.t("Reset password"))
                    }
                }
                @if user.name != own {
                    button.danger type="button" data-api={ "DELETE " (path) } data-confirm-type=(user.name)
                        data-confirm=(words.fill("Remove the account {name}?", &[("name", &user.name)])) {
                        (words.t("Remove"))
                    }
                }
            }
            // What an account of an identity provider is, is decided there.
            @if user.issuer.is_empty() {
                details {
                    summary { (words.t("Change the role")) }
                    form.stacked data-api={ "PUT " (path) "/role" } data-done=(words.t("Changed: it counts from their next click on.")) {
                        (place_fields(words, &format!("-{index}"), sites, user.role, &user.site, &prestages))
                        button type="submit" { (words.t("Change")) }
                    }
                }
            }
        }
    }
}

fn tokens_page(words: Words, tokens: &[TokenRow], scopes: &[&str]) -> Markup {
    let title = words.t("Tokens");
    let columns = [
        en("Token for"),
        en("User"),
        en("May"),
        en("Ends"),
        en("Last used"),
        en("Actions"),
    ];
    let rows: Vec<Markup> = tokens.iter().map(|token| token_row(words, token)).collect();
    html! {
        (head(title, &words.number(tokens.len() as u64)))
        p.muted { (words.t("A token lets a program do what you may do, or a part of it.")) }
        @if tokens.is_empty() {
            (draw::empty(words.t("No tokens yet"), ""))
        } @else {
            (table(words, title, &columns, &[], &rows))
        }
        section.card {
            h2 { (words.t("New token")) }
            form.stacked data-api="POST /api/v1/tokens" data-secret="token" {
                label for="title" { (words.t("Token for")) }
                input id="title" name="title" required maxlength="200" autocomplete="off";
                label for="days" { (words.t("Days until it ends")) }
                input id="days" name="days" type="number" min="1" max=(TOKEN_DAYS_MAX) value=(TOKEN_DAYS);
                fieldset {
                    legend { (words.t("May only do this; none: all that you may")) }
                    @for scope in scopes {
                        label.check { input type="checkbox" name="scopes" value=(scope) data-type="each"; " " code { (scope) } }
                    }
                }
                button.primary type="submit" { (words.t("Make the token")) }
            }
        }
        script src=(assets::address("people.js")) defer {}
    }
}

fn token_row(words: Words, token: &TokenRow) -> Markup {
    html! {
        th scope="row" { (token.title) }
        td { (token.user) }
        td { @if token.scopes.is_empty() { (words.t("all that the user may")) } @else { (token.scopes.join(", ")) } }
        td { (words.time(token.expires_at_ms)) }
        td { @match token.last_used_at_ms { Some(at) => (words.time(at)), None => (words.t("never")) } }
        td {
            button.danger type="button" data-api={ "DELETE /api/v1/tokens/" (token.id) }
                data-confirm=(words.fill("Revoke the token for {title}?", &[("title", &token.title)])) {
                (words.t("Revoke"))
            }
        }
    }
}

fn account_page(words: Words, me: &Me) -> Markup {
    html! {
        (head(words.t("My account"), ""))
        section.card {
            dl.facts {
                dt { (words.t("Name")) } dd { (me.user.name) }
                dt { (words.t("Role")) } dd { (words.t(role_word(me.user.role))) }
                @if !me.user.site.is_empty() { dt { (words.t("Site")) } dd { (me.user.site) } }
                dt { (words.t("May")) } dd { (me.scopes.join(", ")) }
            }
            p { a href="/tokens" { (words.t("My API tokens")) } }
        }
        section.card {
            h2 { (words.t("Change the password")) }
            @if me.user.issuer.is_empty() {
                form.stacked data-api="POST /api/v1/me/password" data-then="/login" {
                    input type="hidden" name="user" value=(me.user.name) autocomplete="username" data-type="omit";
                    label for="password" { (words.t("Password so far")) }
                    input id="password" name="password" type="password" required autocomplete="current-password";
                    label for="new-password" { (words.t("New password")) }
                    input id="new-password" name="new-password" type="password" required minlength="10" autocomplete="new-password";
                    p.note.muted { (words.t("You are signed out everywhere and sign in with the new password. API tokens stay.")) }
                    button.primary type="submit" { (words.t("Change the password")) }
                }
            } @else {
                p { (words.fill("You sign in at {issuer}; the password is changed there.", &[("issuer", &me.user.issuer)])) }
            }
        }
    }
}

fn audit_page(
    words: Words,
    rows: &[AuditRow],
    query: &AuditQuery,
    csv: &str,
    next: Option<i64>,
    verified: Option<&(Option<AuditHead>, Verified)>,
) -> Markup {
    let filter = format!(
        "who={}&action={}&address={}&text={}&since={}&until={}",
        encode(&query.who),
        encode(&query.action),
        encode(&query.address),
        encode(&query.text),
        encode(&query.since),
        encode(&query.until)
    );
    let title = words.t("Audit");
    let columns = [
        en("Row"),
        en("When"),
        en("Who"),
        en("From"),
        en("Action"),
        en("Subject"),
        en("Details"),
    ];
    let lines: Vec<Markup> = rows
        .iter()
        .map(|row| {
            html! {
                th.number scope="row" { (row.number) }
                td.whole { (words.time(row.at_ms)) }
                td { (row.who) }
                td.mono { (or_dash(&row.address)) }
                td.words {
                    @if let Some(text) = audit_words::of(words, &row.action) { (text) br; }
                    code.muted { (row.action) }
                }
                td.words { (row.subject) }
                td.words lang="en" { (row.detail) }
            }
        })
        .collect();
    let verify = html! {
        form method="get" action="/audit" { button name="verify" value="yes" { (words.t("Verify the chain")) } }
    };
    html! {
        (draw::head(&[], title, words.t("who did what, from where"), &verify))
        @if let Some(verified) = verified { (chain(words, verified)) }
        form.filters method="get" action="/audit" role="search" {
            label { (words.t("Who")) " " input name="who" value=(query.who); }
            label { (words.t("Action")) " "
                select name="action" {
                    option value="" { (words.t("All actions")) }
                    @if !query.action.is_empty() && audit_words::of(words, &query.action).is_none() {
                        option value=(query.action) selected { (query.action) }
                    }
                    @for (action, text) in audit_words::in_order(words) {
                        option value=(action) selected[action == query.action] { (text) }
                    }
                }
            }
            label { (words.t("Address or subnet")) " " input name="address" value=(query.address); }
            label { (words.t("Text")) " " input type="search" name="text" value=(query.text); }
            label { (words.t("From|day")) " " input type="date" name="since" value=(query.since); }
            label { (words.t("To|day")) " " input type="date" name="until" value=(query.until); }
            button type="submit" { (words.t("Search")) }
            a href="/audit" { (words.t("Show all")) }
            a href={ "/api/v1/audit.csv" (csv) } download="audit.csv" { "CSV" }
        }
        @if rows.is_empty() {
            (draw::empty(words.t("Nothing that fits"), ""))
        } @else {
            (table(words, title, &columns, &[0], &lines))
        }
        nav.buttons aria-label=(words.t("Pages")) {
            @if query.cursor.is_some() { a href={ "/audit?" (filter) } { (words.t("Newest")) } }
            @if let Some(next) = next { a rel="next" href={ "/audit?" (filter) "&cursor=" (next) } { (words.t("Older")) } }
        }
    }
}

/// The chain of the audit: what came of going along it, and how to do so with a head that was noted.
fn chain(words: Words, (noted, (head, broken)): &(Option<AuditHead>, Verified)) -> Markup {
    html! {
        section.card #chain aria-labelledby="chain-title" {
            h2 #chain-title { (words.t("Has anybody changed the audit?")) }
            (found(words, noted.is_some(), *head, broken.as_ref()))
            p.muted { (words.t("Each row is chained to the one before: a row that is changed, removed or moved breaks the chain.")) " "
                (layout::prose(words.t("Here the server verifies itself. `forestage audit verify` does the same from outside."))) }
            form.stacked method="get" action="/audit" {
                label for="head" { (words.t("A head that you noted earlier")) }
                input #head.mono name="head" value=(noted.map(|noted| noted.to_string()).unwrap_or_default()) placeholder="1234:af13…"
                    maxlength="100" autocomplete="off" spellcheck="false";
                p.note.muted { (words.t("With it, even an audit that was written anew as a whole is noticed.")) }
                div.buttons { button name="verify" value="yes" { (words.t("Verify with it")) } }
            }
        }
    }
}

/// What came of going along the chain.
fn found(words: Words, noted: bool, head: AuditHead, broken: Option<&Broken>) -> Markup {
    let rows = words.count(
        head.number,
        en("1 row was checked: it is the first of the chain."),
        en("{n} rows were checked: each follows from the one before."),
    );
    html! {
        @match broken {
            None => {
                div.remark role="status" {
                    p { span.chip.s-completed { (layout::icon(layout::state_icon(DeviceState::Completed))) (words.t("The chain is whole")) } }
                    p { (rows) }
                    @if noted { p { (words.t("The head that you noted is one of them.")) } }
                    p { (words.t("Note its head outside of this server:")) }
                    p { code { (head) } }
                }
            }
            Some(broken) => {
                div.problem role="alert" { (layout::icon(layout::WARNING)) div {
                    p { b { (words.t("The chain is broken.")) } " " (break_of(words, broken)) }
                    p { (rows) " "
                        a href={ "/audit?cursor=" (broken.row() + 1) } { (words.fill("Rows up to row {n}", &[("n", &broken.row())])) } }
                    p { (words.t("Find out who could write into the database; a backup shows what stood there.")) }
                } }
            }
        }
    }
}

fn break_of(words: Words, broken: &Broken) -> String {
    match broken {
        Broken::Number { expected, found } => words.fill(
            "Row {expected} should come here, but it is row {found}: a row was removed, or rows were reordered.",
            &[("expected", expected), ("found", found)],
        ),
        Broken::Digest { number } => words.fill(
            "Row {n} was changed, or a row before it was replaced: its digest doesn't fit.",
            &[("n", number)],
        ),
        Broken::NotNoted { number } => words.fill(
            "Row {n} isn't the one that was noted: the audit up to it was written anew.",
            &[("n", number)],
        ),
        Broken::CutOff { end, noted } => words.fill(
            "The audit ends at row {end}, but row {noted} was noted: rows were cut off its end.",
            &[("end", end), ("noted", noted)],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "<script>alert(1)</script>";

    #[test]
    fn hostile_names_stay_text() {
        let user = UserRow {
            name: EVIL.into(),
            role: Role::Viewer,
            site: EVIL.into(),
            prestages: Vec::new(),
            issuer: String::new(),
            display: EVIL.into(),
            one_time: false,
            created_at_ms: 0,
            last_used_at_ms: None,
        };
        let row = AuditRow {
            number: 1,
            at_ms: 0,
            who: EVIL.into(),
            action: EVIL.into(),
            subject: EVIL.into(),
            detail: EVIL.into(),
            address: EVIL.into(),
            digest: None,
        };
        let query = AuditQuery {
            who: EVIL.into(),
            text: "\"><b>".into(),
            ..AuditQuery::default()
        };
        let pages = [
            users_page(Words::ENGLISH, &[user], &[EVIL.into()], "admin"),
            audit_page(
                Words::BOKMAL,
                &[row],
                &query,
                "?who=%3Cscript%3E",
                Some(7),
                None,
            ),
        ];
        for page in pages {
            let html = page.into_string();
            assert!(
                !html.contains("<script>") && !html.contains("<b>"),
                "{html}"
            );
        }
    }

    #[test]
    fn nobody_is_offered_to_remove_themselves() {
        let user = |name: &str| UserRow {
            name: name.into(),
            role: Role::Admin,
            site: String::new(),
            prestages: Vec::new(),
            issuer: String::new(),
            display: String::new(),
            one_time: false,
            created_at_ms: 0,
            last_used_at_ms: Some(1),
        };
        let html = users_page(Words::ENGLISH, &[user("me"), user("you")], &[], "me").into_string();
        assert!(html.contains("DELETE /api/v1/users/you"));
        assert!(!html.contains("DELETE /api/v1/users/me"));
    }
}
