//! What several pages of the hand-out draw.

use maud::{Markup, html};
use wire::assignments::ClassRow;

use super::super::words::Words;

/// A choice of a class; its value is `site|class`.
pub(super) fn class_select(
    words: Words,
    id: &str,
    name: &str,
    classes: &[ClassRow],
    chosen: Option<(&str, &str)>,
) -> Markup {
    html! {
        select id=(id) name=(name) {
            option value="" { (words.t("No class")) }
            @for row in classes {
                @let is_chosen = chosen.is_some_and(|(site, class)| site == row.site && class.to_lowercase() == row.class.to_lowercase());
                option value={ (row.site) "|" (row.class) } selected[is_chosen] {
                    (row.site_name) " " (row.class)
                    " (" (words.fill("{n} without", &[("n", &row.without)])) ")"
                }
            }
        }
    }
}

/// A way to the class's page.
pub(super) fn class_address(site: &str, class: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("site", site)
        .append_pair("class", class)
        .finish();
    format!("/pupils/class?{query}")
}
