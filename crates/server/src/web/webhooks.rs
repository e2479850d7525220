//! Webhooks: who is told what, what came of each message, and a message to try it.

use axum::extract::{Path, State};
use maud::{Markup, html};
use wire::webhooks::{
    AttemptRow, DeliveryRow, WEBHOOK_CA_BYTES_MAX, WEBHOOK_URL_BYTES_MAX, WebhookEvent, WebhookRow,
};

use super::filter::encode;
use super::visitor::Visitor;
use super::words::{Words, en};
use super::{assets, draw, layout};
use crate::error::Failure;
use crate::limits::TITLE_CHARS_MAX;
use crate::routes::parse;
use crate::state::AppState;

/// `GET /webhooks`
pub(super) async fn show_all(
    visitor: Visitor,
    State(state): State<AppState>,
) -> Result<Markup, Failure> {
    let content = all(visitor.words, &state.webhooks().await?);
    Ok(visitor.page(visitor.words.t("Webhooks"), None, &content))
}

/// `GET /webhooks/{id}`
pub(super) async fn show_one(
    visitor: Visitor,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Markup, Failure> {
    let webhook = state.webhook(parse(&id)?).await?;
    let deliveries = state.deliveries(webhook.webhook).await?;
    let content = one(visitor.words, &webhook, &deliveries);
    Ok(visitor.page(title(&webhook), None, &content))
}

fn title(webhook: &WebhookRow) -> &str {
    match webhook.title.as_str() {
        "" => &webhook.url,
        title => title,
    }
}

fn all(words: Words, rows: &[WebhookRow]) -> Markup {
    html! {
        (draw::head(&[], words.t("Webhooks"), words.t("other systems are told at once what happens here"), &html! {}))
        @if rows.is_empty() {
            (draw::empty(words.t("No webhooks yet"), words.t("The asset system or the chat of the helpdesk can be told when a machine is ready or fails.")))
        } @else { (table(words, rows)) }
        (new(words))
        script src=(assets::address("people.js")) defer {}
    }
}

fn table(words: Words, rows: &[WebhookRow]) -> Markup {
    let lines: Vec<Markup> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" { a href={ "/webhooks/" (row.webhook) } { (title(row)) } }
                td.value { (row.url) }
                td { (state_text(words, row)) }
                td.number { (words.number(row.waiting)) }
                td.number { @if row.failed > 0 { "⚠ " } (words.number(row.failed)) }
            }
        })
        .collect();
    let columns = [
        words.t("Webhook"),
        words.t("Address"),
        words.t("State"),
        words.t("Messages that wait"),
        words.t("Messages given up"),
    ];
    draw::table(words.t("Webhooks"), &columns, &[3, 4], &lines)
}

fn state_text(words: Words, row: &WebhookRow) -> String {
    match (row.state.as_str(), &row.said) {
        ("active", _) => words.t("Active").to_owned(),
        (_, None) => words.t("Paused").to_owned(),
        (_, Some(why)) => words.fill(en("Paused: {reason}"), &[("reason", &words.say(why))]),
    }
}

fn new(words: Words) -> Markup {
    html! {
        section.card {
            h2 { (words.t("New webhook")) }
            p.muted { (words.t("Its secret is shown once; the receiver checks with it that a message is ours.")) }
            form.stacked data-api="POST /api/v1/webhooks" data-secret="secret" {
                label for="url" { (words.t("Address, beginning with https://")) }
                input #url name="url" type="url" required maxlength=(WEBHOOK_URL_BYTES_MAX) autocomplete="off";
                label for="title" { (words.t("Who is told")) }
                input #title name="title" maxlength=(TITLE_CHARS_MAX) autocomplete="off";
                (events_field(words, &[]))
                label for="ca" { (words.t("Certificate of its authority (PEM), if it isn't a public one")) }
                textarea #ca name="ca-pem" rows="3" maxlength=(WEBHOOK_CA_BYTES_MAX) {}
                div.buttons { button.primary { (words.t("Make the webhook")) } }
            }
        }
    }
}

/// What it is told; ticked is what it is told now.
fn events_field(words: Words, told: &[WebhookEvent]) -> Markup {
    html! {
        fieldset {
            legend { (words.t("Is told of this only; none: of everything")) }
            @for event in WebhookEvent::ALL.into_iter().filter(|event| *event != WebhookEvent::Test) {
                label.check { input type="checkbox" name="events" value=(event) data-type="each" checked[told.contains(&event)]; " " code { (event) } }
            }
        }
    }
}

/// The form of a webhook that exists, filled in. Texts that aren't changed aren't sent, and stay as they are.
fn change(words: Words, path: &str, webhook: &WebhookRow) -> Markup {
    html! {
        details.edit { summary { (words.t("Change the webhook")) }
            form.stacked.card data-api={ "PUT " (path) } data-done=(words.t("Stored.")) {
                label for="url" { (words.t("Address, beginning with https://")) }
                input #url name="url" type="url" required value=(webhook.url) maxlength=(WEBHOOK_URL_BYTES_MAX) data-changed autocomplete="off";
                label for="title" { (words.t("Who is told")) }
                input #title name="title" value=(webhook.title) maxlength=(TITLE_CHARS_MAX) data-changed data-empty="send" autocomplete="off";
                (events_field(words, &webhook.events))
                label for="ca" {
                    (words.t("Certificate of its authority (PEM), if it isn't a public one"))
                    @if webhook.own_ca { " " span.muted { (words.t("(there is one; leave this empty to keep it)")) } }
                }
                textarea #ca name="ca-pem" rows="3" maxlength=(WEBHOOK_CA_BYTES_MAX) {}
                div.buttons { button.primary { (words.t("Store")) } }
            }
        }
    }
}

/// A new secret, shown once.
fn new_secret(words: Words, path: &str, webhook: &WebhookRow) -> Markup {
    html! {
        details.edit { summary { (words.t("New secret")) }
            form.stacked.card data-api={ "POST " (path) "/new-secret" } data-secret="secret" {
                p { (words.t("It is shown once. For a day messages are signed with the old one, too, so that nothing is lost while the receiver gets the new one.")) }
                @if webhook.old_secret_until_ms.is_some() {
                    p.notice { (words.t("The secret before the present one would end at once.")) }
                }
                div.buttons { button.danger { (words.t("Make a new secret")) } }
            }
        }
    }
}

fn one(words: Words, webhook: &WebhookRow, deliveries: &[DeliveryRow]) -> Markup {
    let path = format!("/api/v1/webhooks/{}", webhook.webhook);
    let is_active = webhook.state == "active";
    let actions = html! {
        button.primary type="button" data-api={ "POST " (path) "/test" } data-done=(words.t("Tried: what came of it stands on top.")) { (words.t("Send a test message")) }
        @if is_active {
            button type="button" data-api={ "POST " (path) "/pause" } { (words.t("Pause")) }
        } @else {
            button type="button" data-api={ "POST " (path) "/resume" } { (words.t("Resume")) }
        }
        button.danger type="button" data-api={ "DELETE " (path) } data-then="/webhooks"
            data-confirm=(words.t("Remove this webhook and its log? What waits is never delivered.")) { (words.t("Remove")) }
    };
    let told = match webhook.events.as_slice() {
        [] => words.t("everything").to_owned(),
        events => events
            .iter()
            .map(|e| e.name())
            .collect::<Vec<_>>()
            .join(", "),
    };
    html! {
        (draw::head(&[("/webhooks", words.t("Webhooks"))], title(webhook), &state_text(words, webhook), &actions))
        (draw::facts(&[
            (words.t("Address"), html! { (webhook.url) }),
            (words.t("Is told of"), html! { (told) }),
            (words.t("Made by"), html! { (webhook.created_by) }),
            (words.t("Made"), words.time(webhook.created_at_ms)),
            (words.t("Signed with the old secret, too, until"), match webhook.old_secret_until_ms {
                Some(at_ms) => words.time(at_ms),
                None => html! { "—" },
            }),
        ]))
        (change(words, &path, webhook))
        (new_secret(words, &path, webhook))
        script src=(assets::address("people.js")) defer {}
        @if deliveries.is_empty() {
            (draw::empty(words.t("Nothing was sent yet"), words.t("Send a test message to see whether it arrives.")))
        } @else {
            (draw::block("log-title", words.t("Messages"), words.t("the newest first"), &log(words, &path, is_active, deliveries)))
        }
    }
}

fn log(words: Words, path: &str, is_active: bool, deliveries: &[DeliveryRow]) -> Markup {
    let lines: Vec<Markup> = deliveries
        .iter()
        .map(|row| {
            html! {
                td { (words.time(row.at_ms)) }
                th scope="row" { code { (row.event) } }
                td { (delivery_word(words, &row.state)) }
                td.number { (words.number(row.attempts.len() as u64)) }
                td.value { (layout::or_dash(&row.attempts.last().map(|last| answer(words, last)).unwrap_or_default())) }
                td { @if is_active && row.state != "waiting" {
                    button type="button" data-api={ "POST " (path) "/deliveries/" (encode(&row.message)) "/resend" }
                        aria-label=(words.fill(en("Send {event} again"), &[("event", &row.event)])) { (words.t("Send again")) }
                } }
            }
        })
        .collect();
    let columns = [
        words.t("When"),
        words.t("Event"),
        words.t("State"),
        words.t("Attempts"),
        words.t("Last answer"),
        words.t("Action"),
    ];
    draw::table(words.t("Messages"), &columns, &[3], &lines)
}

fn delivery_word(words: Words, state: &str) -> &'static str {
    let word = match state {
        "delivered" => en("✓ Delivered"),
        "failed" => en("⚠ Given up"),
        _ => en("Waits"),
    };
    words.t(word)
}

/// What came of an attempt: the status and how the answer began, or why there is none.
fn answer(words: Words, attempt: &AttemptRow) -> String {
    match (attempt.status, &attempt.said) {
        (Some(status), _) => format!("{status} {}", attempt.answer).trim().to_owned(),
        (None, Some(why)) => words.say(why),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Words, all, one};
    use wire::webhooks::{AttemptRow, DeliveryRow, WebhookEvent, WebhookRow};

    fn webhook(state: &str) -> WebhookRow {
        WebhookRow {
            webhook: 7,
            url: "https://assets.example/hook".into(),
            title: "<b>assets</b>".into(),
            events: vec![WebhookEvent::RunFailed],
            own_ca: false,
            state: state.into(),
            reason: String::new(),
            old_secret_until_ms: None,
            said: None,
            waiting: 0,
            failed: 1,
            created_by: "ingrid".into(),
            created_at_ms: 0,
        }
    }

    fn delivery(status: Option<u16>) -> DeliveryRow {
        DeliveryRow {
            message: "msg_1".into(),
            event: "run.failed".into(),
            at_ms: 0,
            state: "failed".into(),
            due_at_ms: None,
            attempts: vec![AttemptRow {
                at_ms: 0,
                duration_ms: 3,
                status,
                answer: "<i>no</i>".into(),
                error: "nobody listens".into(),
                said: Some("nobody listens".to_owned().into()),
            }],
        }
    }

    fn page(state: &str, status: Option<u16>) -> String {
        one(Words::ENGLISH, &webhook(state), &[delivery(status)]).into_string()
    }

    #[test]
    fn only_an_active_one_sends_again() {
        assert!(page("active", None).contains("/deliveries/msg_1/resend"));
        assert!(!page("paused", None).contains("/resend"));
        assert!(page("paused", None).contains("/resume"));
    }

    #[test]
    fn what_came_of_a_message_is_told() {
        assert!(page("active", None).contains("nobody listens"));
        assert!(page("active", Some(500)).contains("500 &lt;i&gt;no"));
    }

    #[test]
    fn what_others_say_stays_text() {
        let text = all(Words::ENGLISH, &[webhook("active")]).into_string();
        assert!(text.contains("&lt;b&gt;assets") && !text.contains("<b>assets"));
    }
}
