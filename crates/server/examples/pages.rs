//! Writes the pages with sample data into a folder, to look at them without a server:
//! `cargo run -p server --example pages -- FOLDER`.

#[path = "../src/web/sample.rs"]
mod sample;

use std::path::{Path, PathBuf};

use maud::Markup;
use server::web::filter::{Clock, Filter};
use server::web::login::{Stage, login_page};
use server::web::section::Section;
use server::web::visitor::Visitor;
use server::web::words::Words;
use server::web::{assets, lists, overview, plan, run};
use wire::admin_api::DeviceState;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("pages"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    for asset in assets::all() {
        std::fs::write(folder.join(asset.name), &asset.content)?;
    }
    for words in [Words::ENGLISH, Words::BOKMAL] {
        let folder = folder.join(words.0.code());
        std::fs::create_dir_all(&folder)?;
        write_pages(&folder, words)?;
    }
    Ok(())
}

fn write_pages(folder: &Path, words: Words) -> std::io::Result<()> {
    let rows = sample::devices();
    let kept = sample::kept();
    let clock = Clock {
        now_ms: sample::NOW_MS,
        today_ms: sample::NOW_MS - 20 * 60_000,
    };
    let write = |name: &str, section, live: Option<&str>, content: Markup| {
        let page = Visitor::sample(words, section).page(name, live, &content);
        write_page(folder, name, page)
    };
    let live = Some("/live/overview");
    let nothing = Filter {
        text: "no such device".into(),
        ..Filter::default()
    };
    for (name, rows, filter) in [
        ("overview", &kept[..], Filter::default()),
        ("overview-nothing", &kept[..], nothing),
        ("overview-empty", &[], Filter::default()),
    ] {
        let user = Visitor::sample(words, Section::Overview).user;
        let sight = overview::Sight {
            words,
            user: &user,
            fleet: &overview::Fleet::of(rows.to_vec()),
            filter: &filter,
        };
        let content = overview::overview(sight, &overview::Beside::default(), clock);
        write(name, Section::Overview, live, content)?;
    }
    for row in &rows {
        let Some(run) = row
            .run
            .as_ref()
            .filter(|run| run.run.0.as_u128() % 3 == 2 || run.state != DeviceState::Running)
        else {
            continue;
        };
        let content = run::run_page(
            run::Sight {
                words,
                may_operate: true,
            },
            &sample::detail(run),
            Some(row),
            &[],
        );
        let name = format!("run-{}", run.state);
        write(&name, Section::Runs, Some("/live/runs/1"), content)?;
    }
    write(
        "devices",
        Section::Devices,
        None,
        lists::devices(words, &rows),
    )?;
    let plan = plan::plan_page(words, &sample::plan());
    write("plan", Section::Devices, None, plan)?;
    let look = Visitor::sample(words, Section::Overview).look;
    let login = login_page(look, Stage::SignIn, "admin", "/", None);
    write_page(folder, "login", login)?;
    let problem = Some(words.t("The two new passwords differ."));
    let login = login_page(look, Stage::NewPassword, "admin", "/", problem);
    write_page(folder, "login-new", login)
}

/// Writes one page, with the addresses of style, scripts and icon made relative.
fn write_page(folder: &Path, name: &str, page: Markup) -> std::io::Result<()> {
    let html = assets::all()
        .iter()
        .fold(page.into_string(), |html, asset| {
            html.replace(&asset.address, &format!("../{}", asset.name))
        });
    std::fs::write(folder.join(format!("{name}.html")), html)
}
