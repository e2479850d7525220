//! The figures as one file that needs nothing else: to be sent to people who don't sign in, and to be printed.

use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use wire::insights::Insights;

use super::{Links, cards};
use crate::error::Failure;
use crate::runs::insights::{Period, PeriodQuery, insights_for};
use crate::state::{AppState, now_ms};
use crate::web::assets;
use crate::web::filter::{Filter, FilterQuery};
use crate::web::visitor::Visitor;
use crate::web::words::Words;

/// `GET /api/v1/insights.html`
pub(crate) async fn html(
    visitor: Visitor,
    State(state): State<AppState>,
    Query(query): Query<FilterQuery>,
    Query(period): Query<PeriodQuery>,
) -> Result<Response, Failure> {
    let (filter, period) = (Filter::from(query), Period::from(period));
    let told = insights_for(&state, &visitor.user, &filter, period).await?;
    let text = document(visitor.words, &told, &filter, period, now_ms()).into_string();
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"insights.html\"",
        ),
    ];
    Ok((headers, text).into_response())
}

fn document(words: Words, told: &Insights, filter: &Filter, period: Period, now_ms: i64) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(words.0.code()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Forestage: " (words.t("Insights")) }
                style { (PreEscaped(assets::style())) }
            }
            body {
                main.report {
                    div.headline.page-title {
                        h1 { (words.t("Insights")) }
                        span.muted { (super::summary(words, told)) }
                    }
                    p.muted {
                        (words.fill("As of {time}", &[("time", &words.moment(now_ms))]))
                        @for (name, value) in chosen(words, filter, period) { " · " (name) ": " b { (value) } }
                    }
                    (cards(words, told, Links::None))
                }
            }
        }
    }
}

/// What was chosen, by the names of the fields that choose it.
fn chosen(words: Words, filter: &Filter, period: Period) -> Vec<(&'static str, String)> {
    let day = |day: Option<jiff::civil::Date>| day.map(|day| day.to_string());
    [
        (words.t("Site"), filter.site.clone()),
        (words.t("Class"), filter.class.clone()),
        (words.t("Model"), filter.model.clone()),
        (words.t("Collection"), filter.collection.clone()),
        (words.t("Deployment"), filter.deployment.clone()),
        (words.t("From|day"), day(period.since)),
        (words.t("To|day"), day(period.until)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::runs::history::tests::past_of;
    use crate::runs::insights::Chosen;
    use crate::web::sample;

    #[test]
    fn the_file_asks_for_nothing_and_leads_nowhere() {
        let rows = sample::kept();
        let past = past_of(&rows);
        let filter = Filter {
            site: Some("BJO".into()),
            ..Filter::default()
        };
        let period = Period::default();
        let told = Chosen::of(rows, &past, &filter, period, TimeZone::UTC).insights(&past);
        for words in [Words::ENGLISH, Words::BOKMAL] {
            let text = document(words, &told, &filter, period, sample::NOW_MS).into_string();
            for outside in [
                "<script", "<link", "<img", "href=", "src=", "url(", "@import",
            ] {
                assert!(!text.contains(outside), "{outside}");
            }
            assert_eq!(text.matches("svg class=\"chart\"").count(), 4);
            assert!(text.contains("<b>BJO</b>"));
        }
    }
}
