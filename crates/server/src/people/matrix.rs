//! Every route × every role × own and foreign machines × every kind of credential: what must be answered follows from the table of
//! routes and the table of roles, and is compared with what the server answers. A route that isn't in the tables isn't served.

mod english;
mod world;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use wire::people::Role;

use self::world::{Machine, OF_ONE_SITE, World, json_of, text_of};
use super::roles::{May, allowed};
use crate::db::commit;
use crate::routes::docs::Route;

/// Their answers don't end; who may hear them is asked, what they say isn't.
const ENDLESS: &[&str] = &["/api/v1/events/stream"];

/// The path of a route for one machine; everything else that varies is something that isn't there.
fn path(route: &Route, machine: &Machine) -> String {
    filled(route.path, machine)
}

fn filled(path: &str, machine: &Machine) -> String {
    let words = path.split('/').map(|word| match word {
        "{id}" if path.starts_with("/api/v1/devices") => machine.device.clone(),
        "{id}" if path.contains("/pupils/") => machine.pupil.clone(),
        "{id}" if path.contains("/assignments/") => machine.assignment.clone(),
        "{machine}" => machine.stranger.clone(),
        "{device}" => machine.device.clone(),
        "{run}" => machine.run.clone(),
        "{code}" | "{site}" => machine.site.to_owned(),
        "{serial}" => machine.serial.to_owned(),
        "{digest}" => "0".repeat(64),
        "{version}" => "1".to_owned(),
        word if word.starts_with('{') => "not-there".to_owned(),
        word => word.to_owned(),
    });
    words.collect::<Vec<_>>().join("/")
}

fn is_of_people(route: &Route) -> bool {
    !matches!(route.may, May::Anyone | May::BeDevice)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_who_is_calling() {
    let world = World::new().await;
    let (mut refused, mut public) = (0, 0);
    for route in crate::routes::table() {
        let path = path(&route, &world.own);
        let is_public = super::auth::is_public(&route.method, &path);
        assert_eq!(
            route.may == May::Anyone,
            is_public,
            "{} {}",
            route.method,
            route.path
        );
        if is_public {
            public += 1;
            continue;
        }
        // Never made, ended, cut off, empty; and a person's where a device's is asked for, and the other way round.
        let mut tokens: Vec<Option<String>> = vec![None];
        tokens.extend(["forged", "good-admi", ""].map(|token| Some(token.to_owned())));
        tokens.extend(Role::ALL.map(|role| Some(format!("expired-{role}"))));
        if route.may == May::BeDevice {
            tokens.extend(Role::ALL.map(|role| Some(format!("good-{role}"))));
        }
        for token in tokens {
            let answer = world
                .ask(route.method.as_str(), &path, token.as_deref(), "{}")
                .await;
            assert_eq!(
                answer.status(),
                StatusCode::UNAUTHORIZED,
                "{} {path} with {token:?}",
                route.method
            );
            refused += 1;
        }
    }
    assert!(
        refused > 200 && public >= 4,
        "{refused} refusals, {public} public routes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_may_what_the_table_says_and_no_more() {
    let world = World::new().await;
    let (mut refused, mut admitted) = (0, 0);
    for route in crate::routes::table()
        .iter()
        .filter(|route| is_of_people(route))
    {
        // Those who may not are asked first: those who may change things.
        let mut roles = Role::ALL.to_vec();
        let may = |role: &Role| route.may == May::BeSomebody || allowed(*role).contains(&route.may);
        roles.sort_by_key(may);
        for role in roles {
            if may(&role) && ENDLESS.contains(&route.path) {
                continue;
            }
            let path = path(route, &world.foreign);
            let answer = world
                .ask(
                    route.method.as_str(),
                    &path,
                    Some(&format!("good-{role}")),
                    "{}",
                )
                .await;
            let status = answer.status();
            let said = json_of(answer).await;
            if may(&role) {
                assert!(
                    status != StatusCode::UNAUTHORIZED && said["code"] != "forbidden",
                    "{} {path} as {role}: {status} {said}",
                    route.method
                );
                admitted += 1;
            } else {
                let told = (status, said["code"].as_str(), said["status"].as_u64());
                let expected = (StatusCode::FORBIDDEN, Some("forbidden"), Some(403));
                assert_eq!(told, expected, "{} {path} as {role}", route.method);
                refused += 1;
            }
        }
    }
    assert!(
        refused > 100 && admitted > 100,
        "{refused} refused, {admitted} admitted"
    );
}

/// A body that a route understands, so that nothing but the machine can be what it refuses.
fn body(route: &Route) -> &'static str {
    match (route.method.as_str(), route.path) {
        ("PUT", "/api/v1/pupils/{id}") => {
            r#"{"external-id":"n1","name":"Kari","site":"BJO","class":"8B"}"#
        }
        ("POST", "/api/v1/devices/{id}/retire" | "/api/v1/devices/{id}/report-stolen") => {
            r#"{"reason":"left on the bus"}"#
        }
        _ => "{}",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_machine_is_not_there() {
    let world = World::new().await;
    let mut compared = 0;
    let of_a_machine = |route: &&Route| {
        [
            "{run}",
            "{code}",
            "{site}",
            "{device}",
            "{serial}",
            "{machine}",
        ]
        .iter()
        .any(|part| route.path.contains(part))
            || ["devices", "pupils", "assignments"]
                .iter()
                .any(|folder| route.path.starts_with(&format!("/api/v1/{folder}/{{id}}")))
    };
    for route in crate::routes::table().iter().filter(of_a_machine) {
        for (name, role) in OF_ONE_SITE {
            if !is_of_people(route) || !allowed(role).contains(&route.may) {
                continue;
            }
            let (method, token) = (route.method.as_str(), format!("good-{name}"));
            let ask = async |machine| {
                let path = path(route, machine);
                world
                    .ask(method, &path, Some(&token), body(route))
                    .await
                    .status()
            };
            let foreign = ask(&world.foreign).await;
            let own = ask(&world.own).await;
            let what = format!("{method} {} as {name}: own {own}", route.path);
            assert_ne!(own, StatusCode::BAD_REQUEST, "{what}");
            assert_eq!(foreign, StatusCode::NOT_FOUND, "{what}");
            compared += usize::from(own != StatusCode::NOT_FOUND);
        }
    }
    assert!(compared >= 30, "{compared}");
}

/// A machine of another school that is at theirs now.
#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_is_looked_at_and_reported_and_nothing_else() {
    let world = World::new().await;
    let (mut looked, mut refused) = (0, 0);
    let of_a_machine = |route: &&Route| {
        route.path.starts_with("/api/v1/devices/{id}") || route.path.contains("{run}")
    };
    for route in crate::routes::table().iter().filter(of_a_machine) {
        for (name, role) in OF_ONE_SITE {
            if !is_of_people(route) || !allowed(role).contains(&route.may) {
                continue;
            }
            let (method, token) = (route.method.as_str(), format!("good-{name}"));
            let path = path(route, &world.visitor);
            let answer = world.ask(method, &path, Some(&token), body(route)).await;
            let (status, said) = (answer.status(), json_of(answer).await);
            let what = format!("{method} {path} as {name}: {status} {said}");
            if method == "GET" {
                assert_eq!(status, StatusCode::OK, "{what}");
                looked += 1;
            } else if route.path.ends_with("/report-stolen") {
                let is_reported = status == StatusCode::OK || said["code"] == "same-state";
                assert!(is_reported, "{what}");
            } else {
                let told = (status, said["code"].as_str());
                assert_eq!(told, (StatusCode::FORBIDDEN, Some("visitor")), "{what}");
                refused += 1;
            }
        }
    }
    assert!(
        looked >= 10 && refused >= 6,
        "{looked} looked at, {refused} refused"
    );
    // Scanned at the hand-out, it is what it is, and it isn't handed out.
    let token = Some("good-school-admin");
    let scan = world.ask(
        "POST",
        "/api/v1/assignments/scan",
        token,
        r#"{"text":"pf3"}"#,
    );
    let said = json_of(scan.await).await;
    assert_eq!(
        (&said["devices"], &said["visitors"][0]["serial"]),
        (&json!([]), &json!("PF3"))
    );
    let give =
        json!({ "device": world.visitor.device, "pupil": world.own.pupil, "additional": true });
    let given = world
        .ask("POST", "/api/v1/assignments", token, &give.to_string())
        .await;
    assert_eq!(json_of(given).await["code"], "visitor");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_is_in_lists_as_long_as_it_is_there_and_in_no_figures() {
    let world = World::new().await;
    let visitor = &world.visitor;
    let of = async |name: &str, path: &str| {
        let token = format!("good-{name}");
        text_of(world.ask("GET", path, Some(&token), "").await).await
    };
    let lists = [
        "/api/v1/devices",
        "/api/v1/devices.csv",
        "/api/v1/runs",
        "/api/v1/receipts",
        "/api/v1/find?text=PF3",
        "/api/v1/sites/BJO",
        "/",
        "/devices",
        "/devices/PF3",
        "/devices/PF3/plan",
        "/runs",
    ];
    let figures = ["/api/v1/asset-computers", "/api/v1/insights", "/wall"];
    for (name, _) in OF_ONE_SITE {
        for path in lists {
            let said = of(name, path).await;
            assert!(said.contains("PF3"), "{path} as {name}: {said}");
            for secret in [visitor.pupil_name, visitor.number, &visitor.pupil] {
                assert!(!said.contains(secret), "{path} tells {name} {secret}");
            }
        }
        for path in figures {
            let said = of(name, path).await;
            assert!(
                !said.contains("PF3") && !said.contains("KON"),
                "{path} as {name}: {said}"
            );
        }
        let page = of(name, "/devices/PF3").await;
        assert!(page.contains("Kongsbakken"), "whose it is");
        assert!(
            !page.contains("/retire") && !page.contains("/reset-key"),
            "{page}"
        );
        let run = of(name, &format!("/runs/{}", visitor.run)).await;
        assert!(!run.contains("/stop\""), "{run}");
    }
    // It goes home.
    world.move_visitor("KON").await;
    for (name, _) in OF_ONE_SITE {
        for path in lists.iter().filter(|path| !path.contains("PF3")) {
            assert!(!of(name, path).await.contains("PF3"), "{path} as {name}");
        }
        let found = of(name, "/api/v1/find?text=PF3").await;
        assert_eq!(found, "[]", "as {name}");
    }
    assert!(of("admin", "/api/v1/devices").await.contains("PF3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_names_what_is_foreign_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let bodies = |machine: &Machine, other: &Machine| {
        let (device, pupil) = (&machine.device, &machine.pupil);
        [
            (
                "school-admin",
                "/api/v1/assignments",
                json!({"device": device, "pupil": other.pupil, "swap": true}),
            ),
            (
                "school-admin",
                "/api/v1/assignments",
                json!({"device": other.device, "pupil": pupil, "swap": true}),
            ),
            (
                "school-admin",
                "/api/v1/assignments/pairs",
                json!({"pairs": [{"device": device, "pupil": other.pupil}]}),
            ),
            (
                "school-admin",
                "/api/v1/assignments/pairs",
                json!({"pairs": [{"device": other.device, "pupil": pupil}]}),
            ),
            (
                "school-admin",
                "/api/v1/deployments/a/start",
                json!({"devices": [other.device, device]}),
            ),
            (
                "school-admin",
                "/api/v1/deployments/d/cancel",
                json!({"devices": [other.device, device]}),
            ),
            (
                "clerk-of-a-site",
                "/api/v1/quarantine/decide",
                json!({"machines": [machine.stranger], "decision": {"what": "reject"}}),
            ),
            (
                "clerk-of-a-site",
                "/api/v1/devices/move-to-seen-site",
                json!({"devices": [other.device, device]}),
            ),
        ]
    };
    let counts = async || {
        let mut counts = Vec::new();
        for sql in [
            "SELECT COUNT(*) FROM assignments WHERE returned_at_ms = 0",
            "SELECT COUNT(*) FROM runs",
            "SELECT COUNT(*) FROM deployment_cancelled",
            "SELECT COUNT(*) FROM quarantine_decisions",
            "SELECT COUNT(*) FROM audit",
        ] {
            let count: i64 = sqlx::query_scalar(sql)
                .fetch_one(world.state.db().read())
                .await
                .unwrap();
            counts.push(count);
        }
        counts
    };
    let before = counts().await;
    for (who, path, body) in bodies(&world.foreign, &world.own) {
        let token = format!("good-{who}");
        let answer = world
            .ask("POST", path, Some(&token), &body.to_string())
            .await;
        let (status, said) = (answer.status(), text_of(answer).await);
        assert_eq!(status, StatusCode::NOT_FOUND, "{path} {body}: {said}");
        assert!(!said.contains(world.foreign.pupil_name), "{path}: {said}");
    }
    assert_eq!(counts().await, before);
    // The same bodies about what is theirs are understood, so it isn't the bodies.
    for (who, path, body) in bodies(&world.own, &world.own) {
        let token = format!("good-{who}");
        let status = world
            .ask("POST", path, Some(&token), &body.to_string())
            .await
            .status();
        assert!(
            status.is_success() || status == StatusCode::CONFLICT,
            "{path} {body}: {status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_hold_nothing_of_foreign_sites() {
    let world = World::new().await;
    let lists: Vec<Route> = crate::routes::table()
        .into_iter()
        .filter(|route| {
            route.method == Method::GET
                && !route.path.contains('{')
                && !ENDLESS.contains(&route.path)
                && is_of_people(route)
        })
        .collect();
    // As it is, and as somebody asks who knows what to ask for.
    let foreign = &world.foreign;
    let asked = format!(
        "?site={}&class=8B&text={}&device={}&pupil={}",
        foreign.site, foreign.serial, foreign.device, foreign.pupil
    );
    let of = async |name: &str, path: &str| {
        let token = format!("good-{name}");
        text_of(world.ask("GET", path, Some(&token), "").await).await
    };
    let mut told_admins = std::collections::BTreeSet::new();
    for route in lists {
        let holds = |said: &str, machine: &Machine| {
            let found = machine
                .secrets()
                .into_iter()
                .find(|secret| said.contains(*secret));
            found.map(str::to_owned)
        };
        if holds(&of("admin", route.path).await, foreign).is_some() {
            told_admins.insert(route.path);
        }
        for (name, _) in OF_ONE_SITE
            .iter()
            .filter(|(_, role)| allowed(*role).contains(&route.may))
        {
            for path in [route.path.to_owned(), format!("{}{asked}", route.path)] {
                let said = of(name, &path).await.replace(&asked, "");
                assert_eq!(holds(&said, foreign), None, "{path} tells {name}: {said}");
                assert!(!said.contains("Tromsø"), "{path} tells {name}: {said}");
            }
            if told_admins.contains(route.path) {
                let said = of(name, route.path).await;
                assert!(
                    holds(&said, &world.own).is_some(),
                    "{} as {name}",
                    route.path
                );
            }
        }
    }
    // These do hold it for those who see everything, so that the test can fail.
    for path in [
        "devices",
        "devices.csv",
        "runs",
        "pupils",
        "assignments",
        "receipts",
        "quarantine",
        "asset-computers",
    ] {
        let path = format!("/api/v1/{path}");
        assert!(
            told_admins.contains(path.as_str()),
            "{path}: {told_admins:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_names_a_pupil_is_never_kept() {
    let world = World::new().await;
    let ask = json!({ "device": world.own.device, "pupil": world.own.pupil }).to_string();
    for _ in 0..2 {
        let request = Request::builder()
            .method("POST")
            .uri("/api/v1/assignments")
            .header(header::AUTHORIZATION, "Bearer good-admin")
            .header("idempotency-key", "k");
        let answer = world
            .send(request.body(Body::from(ask.clone())).unwrap())
            .await;
        assert_eq!(answer.status(), StatusCode::CONFLICT);
        assert!(text_of(answer).await.contains(world.own.pupil_name));
    }
    let kept: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM idempotency")
        .fetch_one(world.state.db().read())
        .await
        .unwrap();
    assert_eq!(kept, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_ones_own_or_shared_and_never_widen_what_one_sees() {
    let world = World::new().await;
    let ask = async |method: &str, role: Role, path: &str, body: Value| {
        let token = format!("good-{role}");
        world
            .ask(method, path, Some(&token), &body.to_string())
            .await
    };
    let save = async |role, name: &str, query: &str, shared: bool| {
        let path = format!("/api/v1/views/{name}");
        let body = json!({ "query": query, "shared": shared });
        ask("PUT", role, &path, body).await.status()
    };
    let names = async |role| -> Vec<String> {
        let views = json_of(ask("GET", role, "/api/v1/views", Value::Null).await).await;
        let views = views.as_array().cloned().unwrap();
        let name = |view: Value| view["name"].as_str().unwrap().to_owned();
        views.into_iter().map(name).collect()
    };
    assert_eq!(save(Role::Admin, "all", "?seen=5&x=1", true).await, 200);
    assert_eq!(save(Role::Admin, "far", "site=TRO", true).await, 200);
    assert_eq!(save(Role::Admin, "mine", "", false).await, 200);
    assert_eq!(save(Role::SchoolAdmin, "own", "site=BJO", false).await, 200);
    for role in [Role::SchoolAdmin, Role::AssetClerk, Role::Viewer] {
        let refused = save(role, "all", "site=BJO", true).await;
        assert_eq!(refused, StatusCode::FORBIDDEN, "{role}");
    }
    assert_eq!(save(Role::Admin, "%20", "", false).await, 400);
    assert_eq!(names(Role::Admin).await, ["all", "far", "mine"]);
    assert_eq!(names(Role::Viewer).await, ["all", "far"]);
    assert_eq!(names(Role::SchoolAdmin).await, ["all", "own"]);
    let all = ask("GET", Role::Viewer, "/api/v1/views/all", Value::Null).await;
    let all = json_of(all).await;
    assert_eq!(
        (&all["query"], &all["shared"]),
        (&json!("seen=5"), &json!(true))
    );
    // Whoever knows the query all the same sees nothing by it.
    let far = ask("GET", Role::SchoolAdmin, "/api/v1/views/far", Value::Null).await;
    assert_eq!(far.status(), StatusCode::NOT_FOUND);
    let table = async |role| {
        let answer = ask("GET", role, "/api/v1/devices.csv?site=TRO", Value::Null).await;
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
        String::from_utf8(bytes.unwrap().to_vec()).unwrap()
    };
    assert!(table(Role::Viewer).await.contains("PF2"));
    assert!(!table(Role::SchoolAdmin).await.contains("PF2"));
    // Everybody's is deleted by administrators, one's own by oneself.
    let delete = async |role, path: &str| ask("DELETE", role, path, json!({})).await.status();
    for (role, path, expected) in [
        (Role::Viewer, "/api/v1/views/all?shared=true", 403),
        (Role::Viewer, "/api/v1/views/all", 404),
        (Role::Admin, "/api/v1/views/own", 404),
        (Role::SchoolAdmin, "/api/v1/views/own", 200),
        (Role::Admin, "/api/v1/views/all?shared=true", 200),
    ] {
        assert_eq!(delete(role, path).await, expected, "{role} {path}");
    }
    assert_eq!(names(Role::SchoolAdmin).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_counts_like_a_token_and_never_from_another_site() {
    let world = World::new().await;
    let ask = async |method: &str, path: &str, cookie: &str, from: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::COOKIE, format!("__Host-forestage={cookie}"))
            .header("sec-fetch-site", from);
        world
            .send(request.body(Body::from("{}")).unwrap())
            .await
            .status()
    };
    let me = "/api/v1/me";
    for (cookie, expected) in [
        ("good-viewer", StatusCode::OK),
        ("expired-viewer", StatusCode::UNAUTHORIZED),
        ("forged", StatusCode::UNAUTHORIZED),
        ("", StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(
            ask("GET", me, cookie, "same-origin").await,
            expected,
            "{cookie}"
        );
    }
    for route in crate::routes::table()
        .iter()
        .filter(|route| is_of_people(route))
    {
        if route.method.is_safe() {
            continue;
        }
        for from in ["cross-site", "same-site"] {
            let status = ask(
                route.method.as_str(),
                &path(route, &world.own),
                "good-admin",
                from,
            )
            .await;
            assert_eq!(
                status,
                StatusCode::FORBIDDEN,
                "{} {} from {from}",
                route.method,
                route.path
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scoped_token_may_what_its_scopes_name_as_long_as_its_user_may() {
    let world = World::new().await;
    let new = r#"{"title":"t","scopes":["view"]}"#;
    let made = json_of(
        world
            .ask("POST", "/api/v1/tokens", Some("good-admin"), new)
            .await,
    )
    .await;
    let token = made["token"].as_str().unwrap();
    let ask = async |method: &str, path: &str, body: &str| {
        world.ask(method, path, Some(token), body).await.status()
    };
    assert_eq!(ask("GET", "/api/v1/devices", "").await, StatusCode::OK);
    assert_eq!(ask("GET", "/api/v1/users", "").await, StatusCode::FORBIDDEN);
    let more = r#"{"title":"more","scopes":["administer"]}"#;
    assert_eq!(
        ask("POST", "/api/v1/tokens", more).await,
        StatusCode::FORBIDDEN
    );
    let change = r#"{"password":"x","new-password":"a longer sentence"}"#;
    assert_eq!(
        ask("POST", "/api/v1/me/password", change).await,
        StatusCode::FORBIDDEN
    );
    // Its user becomes less: so does the token.
    let role = r#"{"role":"factory-operator"}"#;
    let mut db = world.state.db().write().await.unwrap();
    sqlx::query(
        "INSERT INTO users (name, password, one_time, created_at_ms) VALUES ('second', '', 0, 1)",
    )
    .execute(&mut *db)
    .await
    .unwrap();
    commit(db).await.unwrap();
    let changed = world
        .ask("PUT", "/api/v1/users/admin/role", Some("good-admin"), role)
        .await;
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(
        ask("GET", "/api/v1/devices", "").await,
        StatusCode::FORBIDDEN
    );
    let id = made["row"]["id"].as_str().unwrap();
    assert_eq!(
        ask("DELETE", &format!("/api/v1/tokens/{id}"), "").await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(ask("GET", "/api/v1/me", "").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_with_a_key_is_done_once() {
    let world = World::new().await;
    let ask = async |key: &str, name: &str, body: &str| {
        let request = Request::builder()
            .method("PUT")
            .uri(format!("/api/v1/collections/{name}"))
            .header(header::AUTHORIZATION, "Bearer good-admin")
            .header("idempotency-key", key);
        let answer = world
            .send(request.body(Body::from(body.to_owned())).unwrap())
            .await;
        let replayed = answer.headers().contains_key("idempotency-replayed");
        (answer.status().as_u16(), replayed, json_of(answer).await)
    };
    let one = r#"{"name":"one","title":"One"}"#;
    let (status, replayed, first) = ask("k1", "one", one).await;
    assert_eq!((status, replayed), (200, false));
    assert_eq!(ask("k1", "one", one).await, (200, true, first));
    let (status, _, said) = ask("k1", "one", r#"{"name":"one","title":"Two"}"#).await;
    assert_eq!((status, said["code"].as_str()), (422, Some("key-reused")));
    assert_eq!(ask("k1", "two", r#"{"name":"two"}"#).await.0, 422);
    assert_eq!(
        ask("k2", "one", r#"{"name":"one","title":"Two"}"#).await.0,
        200
    );
    // A refusal is an answer too.
    let (status, _, _) = ask("k3", "one", r#"{"name":"other"}"#).await;
    assert_eq!(status, 400);
    assert!(ask("k3", "one", r#"{"name":"other"}"#).await.1);
    assert_eq!(ask(&"k".repeat(201), "one", one).await.0, 400);
    let audited: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM audit WHERE action = 'collection-stored'")
            .fetch_one(world.state.db().read())
            .await
            .unwrap();
    assert_eq!(audited, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_never_kept_for_those_who_ask_again() {
    let world = World::new().await;
    let ask = async || {
        let request = Request::builder()
            .method("POST")
            .uri("/api/v1/tokens")
            .header(header::AUTHORIZATION, "Bearer good-admin")
            .header("idempotency-key", "k");
        let body = Body::from(r#"{"title":"t"}"#);
        json_of(world.send(request.body(body).unwrap()).await).await
    };
    let token = ask().await["token"].as_str().unwrap().to_owned();
    let again = ask().await;
    assert_eq!(again["code"], "done-already");
    let kept: Vec<Vec<u8>> = sqlx::query_scalar("SELECT body FROM idempotency")
        .fetch_all(world.state.db().read())
        .await
        .unwrap();
    for body in kept {
        assert!(!String::from_utf8_lossy(&body).contains(&token));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_a_chain_and_comes_in_pages() {
    let world = World::new().await;
    for number in 0..5 {
        let path = format!("/api/v1/collections/list-{number}");
        let body = format!(r#"{{"name":"list-{number}","title":""}}"#);
        world.ask("PUT", &path, Some("good-admin"), &body).await;
    }
    let mut verifier = wire::audit::Verifier::new(None);
    let mut path = "/api/v1/audit?order=oldest&limit=2".to_owned();
    let mut pages = 0;
    loop {
        let answer = world.ask("GET", &path, Some("good-admin"), "").await;
        let next = answer
            .headers()
            .get("next-cursor")
            .map(|next| next.to_str().unwrap().to_owned());
        let rows: Vec<wire::admin_api::AuditRow> =
            serde_json::from_value(json_of(answer).await).unwrap();
        assert!(rows.len() <= 2);
        rows.iter().try_for_each(|row| verifier.next(row)).unwrap();
        pages += 1;
        match next {
            Some(next) => path = format!("/api/v1/audit?order=oldest&limit=2&cursor={next}"),
            None => break,
        }
    }
    assert!(pages >= 3);
    let head = json_of(
        world
            .ask("GET", "/api/v1/audit/head", Some("good-admin"), "")
            .await,
    )
    .await;
    assert_eq!(
        serde_json::to_value(verifier.finish().unwrap()).unwrap(),
        head
    );
    let found = json_of(
        world
            .ask(
                "GET",
                "/api/v1/audit?text=LIST-3&who=admin",
                Some("good-admin"),
                "",
            )
            .await,
    )
    .await;
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found[0]["subject"], "list-3");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_says_where_its_audit_breaks() {
    let world = World::new().await;
    for number in 0..5 {
        let path = format!("/api/v1/collections/c{number}");
        let body = format!(r#"{{"name":"c{number}","title":""}}"#);
        world.ask("PUT", &path, Some("good-admin"), &body).await;
    }
    let verify = async |head: &str| {
        let path = format!("/api/v1/audit/verify?head={head}");
        json_of(world.ask("GET", &path, Some("good-admin"), "").await).await
    };
    let page = async |head: &str| {
        let path = format!("/audit?verify=yes&head={head}");
        let answer = world.ask("GET", &path, Some("good-admin"), "").await;
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 24).await;
        String::from_utf8(bytes.unwrap().to_vec()).unwrap()
    };
    let sound = verify("").await;
    let number = sound["head"]["number"].as_u64().unwrap();
    let head = format!("{number}:{}", sound["head"]["digest"].as_str().unwrap());
    assert!(number >= 5 && sound["broken"].is_null() && sound["noted"] == false);
    let noted = verify(&head).await;
    assert_eq!(
        (&noted["head"], &noted["noted"]),
        (&sound["head"], &json!(true))
    );
    assert!(page(&head).await.contains("The chain is whole"));
    assert_eq!(verify("7").await["code"], "bad-head");
    let cut = verify(&head.replacen(&number.to_string(), &(number + 1).to_string(), 1)).await;
    assert_eq!(cut["broken"]["row"], number + 1);
    for (what, sql) in [
        (
            "a detail",
            "UPDATE audit SET detail = 'x' WHERE number = $1",
        ),
        (
            "an address",
            "UPDATE audit SET detail = '', address = '192.0.2.1' WHERE number = $1",
        ),
        ("the row", "DELETE FROM audit WHERE number = $1"),
    ] {
        let mut db = world.state.db().write().await.unwrap();
        sqlx::query(sql)
            .bind(i64::try_from(number - 2).unwrap())
            .execute(&mut *db)
            .await
            .unwrap();
        commit(db).await.unwrap();
        let broken = verify("").await;
        assert_eq!(broken["broken"]["row"], number - 2, "{what}: {broken}");
        assert_eq!(broken["head"]["number"], number - 3, "{what}: {broken}");
        let page = page("").await;
        assert!(page.contains("The chain is broken."), "{what}: {page}");
        assert!(
            page.contains(&format!("/audit?cursor={}", number - 1)),
            "{what}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_or_a_path_that_makes_no_sense_is_a_problem_like_any_other() {
    let world = World::new().await;
    for path in [
        "/api/v1/devices?limit=many",
        "/api/v1/find",
        "/api/v1/imports/seven",
        "/api/v1/sequences/s/versions/last",
    ] {
        let answer = world.ask("GET", path, Some("good-admin"), "").await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}");
        let kind = answer.headers()[header::CONTENT_TYPE].clone();
        assert_eq!(kind, "application/problem+json", "{path}");
        let said = json_of(answer).await;
        assert_eq!(said["code"], "bad-request", "{path}: {said}");
        assert!(!said["message"].as_str().unwrap().is_empty(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_sequence_is_a_problem_with_its_findings() {
    let world = World::new().await;
    let text = "sequence: bad\nsteps:\n  - id: a\n    fly-away: {}\n";
    let answer = world
        .ask("PUT", "/api/v1/sequences/bad", Some("good-admin"), text)
        .await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let kind = answer.headers()[header::CONTENT_TYPE].clone();
    assert_eq!(kind, "application/problem+json");
    let said = json_of(answer).await;
    assert_eq!(
        (&said["code"], &said["status"]),
        (&json!("sequence-refused"), &json!(422))
    );
    assert_eq!(said["findings"][0]["line"], 4, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_guarded_by_the_same_table() {
    let world = World::new().await;
    let (mut refused, mut hidden) = (0, 0);
    for page in crate::web::pages::list() {
        if page.may == May::Anyone {
            continue;
        }
        let own = filled(page.path, &world.own);
        let ask = async |path: &str, token: Option<&str>| {
            world
                .ask(page.method.as_str(), path, token, "")
                .await
                .status()
        };
        let expired = Role::ALL.map(|role| format!("expired-{role}"));
        let bad = [None, Some("forged")].into_iter();
        for token in bad.chain(expired.iter().map(|token| Some(token.as_str()))) {
            assert_eq!(ask(&own, token).await, StatusCode::UNAUTHORIZED, "{own}");
        }
        for role in Role::ALL {
            let may = page.may == May::BeSomebody || allowed(role).contains(&page.may);
            if may && page.path.starts_with("/live/") {
                continue;
            }
            let status = ask(&own, Some(&format!("good-{role}"))).await;
            assert_eq!(
                status == StatusCode::FORBIDDEN,
                !may,
                "{own} as {role}: {status}"
            );
            refused += usize::from(!may);
        }
        let is_of_a_machine = ["{run}", "{code}", "{site}", "{serial}", "{device}"]
            .iter()
            .any(|part| page.path.contains(part));
        if is_of_a_machine
            && allowed(Role::SchoolAdmin).contains(&page.may)
            && !page.path.starts_with("/live/")
        {
            let visitor = filled(page.path, &world.visitor);
            if ["{run}", "{serial}"]
                .iter()
                .any(|part| page.path.contains(part))
            {
                let status = ask(&visitor, Some("good-school-admin")).await;
                assert_eq!(status, StatusCode::OK, "{visitor}");
            }
            let foreign = filled(page.path, &world.foreign);
            let status = ask(&foreign, Some("good-school-admin")).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{foreign}");
            hidden += 1;
        }
    }
    assert!(
        refused > 5 && hidden >= 2,
        "{refused} refused, {hidden} hidden"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_only_looks_waits_for_no_writer() {
    let world = World::new().await;
    let sequence = "sequence: s\nsteps:\n  - id: finish\n    finish: { action: restart }\n";
    let stored = world
        .ask("PUT", "/api/v1/sequences/s", Some("good-admin"), sequence)
        .await;
    assert_eq!(stored.status(), StatusCode::OK);
    let deployment = r#"{"name":"e","collection":"c","sequence":"s","purpose":"required","expected-seconds":60,"cap":9}"#;
    let names =
        json!({ "template": "{{ serial }}", "devices": [world.own.device], "apply": false });
    let ask = async |method: &str, path: &str, body: &str| {
        let asked = world.ask(method, path, Some("good-admin"), body);
        let answer = tokio::time::timeout(std::time::Duration::from_secs(20), asked).await;
        let answer = answer.unwrap_or_else(|_| panic!("{method} {path} waits for a writer"));
        assert_eq!(answer.status(), StatusCode::OK, "{method} {path}");
    };
    // That a token was used is noted now and then; here before anyone is in the way.
    ask("GET", "/api/v1/me", "").await;
    let writer = world.state.db().write().await.unwrap();
    ask("GET", "/api/v1/me", "").await;
    ask("GET", "/api/v1/deployments/d/status", "").await;
    ask("POST", "/api/v1/deployments/preview", deployment).await;
    ask("POST", "/api/v1/device-names", &names.to_string()).await;
    ask("GET", "/api/v1/sites/BJO", "").await;
    ask("GET", "/api/v1/models", "").await;
    ask("GET", "/devices/PF1", "").await;
    drop(writer);
}
