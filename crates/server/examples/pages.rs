//! Writes the pages with sample data into a folder, to look at them without a server:
//! `cargo run -p server --example pages -- FOLDER`.

#[path = "../src/web/sample.rs"]
mod sample;

use std::path::{Path, PathBuf};

use maud::Markup;
use server::web::filter::Filter;
use server::web::layout::{Section, page};
use server::web::login::{Stage, login_page};
use server::web::{assets, lists, overview, plan, run};
use wire::admin_api::DeviceState;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("pages"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("style.css"), assets::style())?;
    std::fs::write(folder.join("live.js"), assets::script())?;
    std::fs::write(folder.join("icon.svg"), assets::icon())?;

    let rows = sample::devices();
    let write = |name: &str, page: Markup| write_page(&folder, name, page);
    let show = |content| {
        page(
            "Overview",
            Section::Overview,
            "admin",
            Some("/live/overview"),
            &content,
        )
    };
    write(
        "overview",
        show(overview::overview(
            &rows,
            &Filter::default(),
            sample::NOW_MS,
        )),
    )?;
    let filter = Filter {
        text: "no such device".into(),
        ..Filter::default()
    };
    write(
        "overview-nothing",
        show(overview::overview(&rows, &filter, sample::NOW_MS)),
    )?;
    write(
        "overview-empty",
        show(overview::overview(&[], &Filter::default(), sample::NOW_MS)),
    )?;
    for row in &rows {
        let Some(run) = row
            .run
            .as_ref()
            .filter(|run| run.run.0.as_u128() % 3 == 2 || run.state != DeviceState::Running)
        else {
            continue;
        };
        let content = run::run_page(&sample::detail(run), Some(row));
        let name = format!("run-{}", run.state);
        write(
            &name,
            page(
                &run.serial,
                Section::Overview,
                "admin",
                Some("/live/runs/1"),
                &content,
            ),
        )?;
    }
    write(
        "devices",
        page(
            "Devices",
            Section::Devices,
            "admin",
            None,
            &lists::devices(&rows),
        ),
    )?;
    let plan = sample::plan();
    write(
        "plan",
        page(
            &plan::title(&plan),
            Section::Overview,
            "admin",
            None,
            &plan::plan_page(&plan),
        ),
    )?;
    write("login", login_page(Stage::SignIn, "admin", "/", None))?;
    let problem = Some("The two new passwords differ.");
    write(
        "login-new",
        login_page(Stage::NewPassword, "admin", "/", problem),
    )
}

/// Writes one page, with the addresses of style, script and icon made relative.
fn write_page(folder: &Path, name: &str, page: Markup) -> std::io::Result<()> {
    let html = page
        .into_string()
        .replace(assets::style_address(), "style.css")
        .replace(assets::script_address(), "live.js")
        .replace(assets::icon_address(), "icon.svg");
    std::fs::write(folder.join(format!("{name}.html")), html)
}
