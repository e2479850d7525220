//! What the API reference and OpenAPI tell of a route: see `texts` for how it is told. Examples are read as the types they are
//! examples of, by a test; so is it a test that no route is left out.

use axum::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

use crate::people::roles::May;
use crate::routes::answers;

/// A JSON document as a request or an answer.
#[derive(Debug, Clone, Copy)]
pub struct Document {
    /// The name of its type.
    pub name: fn() -> String,
    /// Its schema.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// An example; empty if there is none.
    pub example: &'static str,
    /// Reads a text as this type.
    pub check: fn(&str) -> Result<(), String>,
}

/// A body.
#[derive(Debug, Clone, Copy)]
pub enum Content {
    /// None.
    Nothing,
    /// A JSON document.
    Json(Document),
    /// Something else, of this media type.
    Bytes(&'static str),
}

/// A refusal that callers can tell by its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The code.
    pub code: &'static str,
    /// When.
    pub when: &'static str,
}

/// A parameter of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// How much of a list one answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// All of it.
    Whole,
    /// At most so many rows.
    AtMost(u32),
    /// All of it, or page by page if one asks: `?limit=` and `?cursor=`.
    Pages,
}

impl Listing {
    /// In words; pages have parameters that say it.
    pub(super) fn in_words(self) -> Option<String> {
        match self {
            Self::Whole => Some("The whole list in one answer.".into()),
            Self::AtMost(rows) => Some(format!("At most {rows} rows.")),
            Self::Pages => None,
        }
    }
}

/// One route with everything that is told of it.
#[derive(Debug, Clone)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, `{…}` for the parts that vary.
    pub path: &'static str,
    /// What its caller must be allowed to do.
    pub may: May,
    /// One sentence; empty if nobody has written one.
    pub summary: &'static str,
    /// More, in a few sentences.
    pub detail: &'static str,
    /// Parameters of the query.
    pub query: Vec<Parameter>,
    /// The body of the request.
    pub takes: Content,
    /// The body of the answer.
    pub answers: Content,
    /// Refusals beyond those that every route has.
    pub fails: Vec<Refusal>,
    /// How much of the list it answers, if it answers one.
    pub listing: Option<Listing>,
    /// The types of what its handler takes from a request.
    pub extractors: &'static str,
}

impl Route {
    pub(super) fn new<T>(method: Method, path: &'static str, may: May) -> Self {
        Self {
            method,
            path,
            may,
            summary: "",
            detail: "",
            query: Vec::new(),
            takes: Content::Nothing,
            answers: Content::Nothing,
            fails: Vec::new(),
            listing: None,
            extractors: std::any::type_name::<T>(),
        }
    }

    /// Its name in the description of the API, unique and stable: method and path in one word.
    #[must_use]
    pub fn operation_id(&self) -> String {
        let words = self.path.trim_start_matches("/api/v1/").split('/');
        let words = words.map(|word| word.trim_matches(['{', '}']).replace(['.', '-'], "_"));
        let words: Vec<String> = words.collect();
        let method = self.method.as_str().to_lowercase();
        format!("{method}_{}", words.join("_"))
    }

    /// Whether the list comes in pages if one asks.
    #[must_use]
    pub fn is_paged(&self) -> bool {
        self.listing == Some(Listing::Pages)
    }

    /// The folder it is shown in: what comes after `/api/v1/`.
    #[must_use]
    pub fn folder(&self) -> &'static str {
        let rest = self.path.strip_prefix("/api/v1/");
        let rest = rest.or_else(|| self.path.strip_prefix("/device/v1/"));
        rest.map_or("service", |rest| {
            rest.split_once('/').map_or(rest, |(folder, _)| folder)
        })
    }
}

fn document<T: JsonSchema + DeserializeOwned>(example: &'static str) -> Document {
    Document {
        name: || T::schema_name().into_owned(),
        schema: |generator| generator.subschema_for::<T>(),
        example,
        check: |text| match serde_json::from_str::<T>(text) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// The table of routes while it is told what each of them is.
pub(crate) struct Texts {
    table: Vec<Route>,
    at: Option<usize>,
    strays: Vec<String>,
}

impl Texts {
    pub(super) const fn of_table(table: Vec<Route>) -> Self {
        Self {
            table,
            at: None,
            strays: Vec::new(),
        }
    }

    pub(super) fn into_parts(self) -> (Vec<Route>, Vec<String>) {
        (self.table, self.strays)
    }

    /// What follows is about this route: in one sentence, and more if there is more to say.
    pub(crate) fn of(
        mut self,
        method: &str,
        path: &str,
        summary: &'static str,
        detail: &'static str,
    ) -> Self {
        let is_it = |route: &Route| route.method.as_str() == method && route.path == path;
        self.at = self.table.iter().position(is_it);
        if self.at.is_none() {
            self.strays.push(format!("{method} {path}"));
        }
        self.tell(|route| {
            route.summary = summary;
            route.detail = detail;
        })
    }

    /// The JSON it takes, with an example.
    pub(crate) fn takes<T: JsonSchema + DeserializeOwned>(self, example: &'static str) -> Self {
        self.tell(|route| route.takes = Content::Json(document::<T>(example)))
    }

    /// The JSON it answers.
    pub(crate) fn answers<T: JsonSchema + DeserializeOwned>(self) -> Self {
        self.tell(|route| {
            let example = answers::example(&route.operation_id());
            route.answers = Content::Json(document::<T>(example));
        })
    }

    /// It takes something other than JSON.
    pub(crate) fn takes_bytes(self, media_type: &'static str) -> Self {
        self.tell(|route| route.takes = Content::Bytes(media_type))
    }

    /// It answers something other than JSON.
    pub(crate) fn answers_bytes(self, media_type: &'static str) -> Self {
        self.tell(|route| route.answers = Content::Bytes(media_type))
    }

    /// A parameter of the query.
    pub(crate) fn query(self, name: &'static str, about: &'static str) -> Self {
        self.tell(|route| route.query.push(Parameter { name, about }))
    }

    /// Several of them.
    pub(crate) fn queries(self, all: &[(&'static str, &'static str)]) -> Self {
        all.iter()
            .fold(self, |texts, (name, about)| texts.query(name, about))
    }

    /// A refusal that callers can tell by its code.
    pub(crate) fn fails(self, status: u16, code: &'static str, when: &'static str) -> Self {
        self.tell(|route| route.fails.push(Refusal { status, code, when }))
    }

    /// The list comes in pages if one asks: `?limit=` and `?cursor=`.
    pub(crate) fn paged(self) -> Self {
        self.tell(|route| route.listing = Some(Listing::Pages))
    }

    /// The whole list comes in one answer: it has no more rows than people make by hand.
    pub(crate) fn whole(self) -> Self {
        self.tell(|route| route.listing = Some(Listing::Whole))
    }

    /// The list ends after so many rows.
    pub(crate) fn at_most(self, rows: u32) -> Self {
        self.tell(|route| route.listing = Some(Listing::AtMost(rows)))
    }

    fn tell(mut self, tell: impl FnOnce(&mut Route)) -> Self {
        if let Some(route) = self.at.and_then(|at| self.table.get_mut(at)) {
            tell(route);
        }
        self
    }
}
