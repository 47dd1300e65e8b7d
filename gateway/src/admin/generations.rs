//! `/api/v1/generations`: what was in force and what was refused, with texts and differences; `/api/v1/rollback`: back to
//! an earlier policy.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config::{TextsView, texts_on_disk};
use super::guard::{self, Caller};
use super::off_thread;
use super::policy::{ChangeView, change_of, etag, expected};
use super::problem::Problem;
use super::query::Query;
use crate::apply::{Expected, apply};
use crate::config::set::Texts;
use crate::gateway::Gateway;
use crate::generations::comparison::Comparison;
use crate::generations::entry::{Entry, Id, Origin, Outcome};
use crate::snapshot::Snapshot;

/// Entries in an answer where the request does not say.
const DEFAULT_LIMIT: usize = 50;
/// Largest body of a rollback, bytes.
const MOST_ROLLBACK_BYTES: usize = 1024;

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/api/v1/generations", get(list))
        .route("/api/v1/generations/{id}", get(show))
        .route("/api/v1/generations/diff", get(diff))
}

/// What changes the policy.
pub fn changes() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/rollback", post(rollback))
}

/// An entry as it is shown: with its name, and with what became of it.
#[derive(Debug, Serialize)]
struct EntryView<'a> {
    id: String,
    #[serde(flatten)]
    entry: &'a Entry,
    /// `in-force`, `replaced` or `refused`.
    state: &'static str,
}

impl EntryView<'_> {
    fn of<'a>(entry: &'a Entry, current: &Snapshot) -> EntryView<'a> {
        let state = match entry.result {
            Outcome::Refused => "refused",
            Outcome::Accepted if entry.number == current.generation => "in-force",
            Outcome::Accepted => "replaced",
        };
        EntryView { id: entry.id().to_string(), entry, state }
    }
}

async fn list(State(gateway): State<Arc<Gateway>>, uri: Uri) -> Result<Response, Problem> {
    let limit = Query::read(&uri, &["limit"])?.number("limit")?.unwrap_or(DEFAULT_LIMIT);
    off_thread(move || {
        let _settled = gateway.reloading(); // what is in force is on the list
        let current = gateway.snapshot();
        let entries = gateway.history().entries(limit);
        let views: Vec<_> = entries.iter().map(|entry| EntryView::of(entry, &current)).collect();
        Ok(Json(json!({ "in_force": current.generation, "generations": views })).into_response())
    })
    .await
}

async fn show(State(gateway): State<Arc<Gateway>>, Path(id): Path<String>, uri: Uri) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    off_thread(move || {
        let _settled = gateway.reloading();
        let id = parse_id(&id)?;
        let entry = gateway.history().entry(id).ok_or_else(|| unknown(&gateway, &id.to_string()))?;
        let texts = texts(&gateway, &id.to_string())?;
        let before = match entry.stayed {
            Some(stayed) => Some(Id::Generation(stayed)),
            None => gateway.history().before(entry.number, |_| true).map(|before| before.id()),
        };
        let before = before.and_then(|id| Some((id, gateway.history().texts(id).ok()?)));
        let compared =
            before.map(|(id, before)| json!({ "with": id.to_string(), "files": Comparison::of(&before, &texts) }));
        let view = EntryView::of(&entry, &gateway.snapshot());
        Ok(Json(json!({ "generation": view, "files": TextsView::of(&texts), "compared": compared })).into_response())
    })
    .await
}

async fn diff(State(gateway): State<Arc<Gateway>>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::read(&uri, &["from", "to"])?;
    off_thread(move || {
        let from = query.text("from").ok_or_else(|| {
            let missing = Problem::new(StatusCode::BAD_REQUEST, "bad-parameter", "`from` is missing");
            missing.help("say `?from=A&to=B`: numbers of generations, `current`, or `file` for what is on disk")
        })?;
        let to = query.text("to").unwrap_or("current");
        let comparison = Comparison::of(&texts(&gateway, from)?, &texts(&gateway, to)?);
        let view = json!({ "from": from, "to": to, "summary": comparison.summary(), "files": comparison });
        Ok(Json(view).into_response())
    })
    .await
}

/// What a rollback asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// The generation whose policy shall be in force; the last one with another policy where not given.
    to: Option<u64>,
}

async fn rollback(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let dry_run = Query::read(&uri, &["dry_run"])?.flag("dry_run")?;
    let expected = expected(&headers)?.unwrap_or(Expected::Any);
    let body = guard::body(body, MOST_ROLLBACK_BYTES).await?;
    let wish: Wish = match body.trim_ascii() {
        b"" => Wish::default(),
        body => serde_json::from_slice(body).map_err(|error| {
            let bad = Problem::new(StatusCode::BAD_REQUEST, "bad-body", format!("the body cannot be read: {error}"));
            bad.help("send nothing, or `{\"to\": N}`")
        })?,
    };
    off_thread(move || {
        let (to, earlier) = target(&gateway, wish.to)?;
        let portfolio_differs = earlier.portfolio.text != gateway.snapshot().texts.portfolio.text;
        let change = if dry_run {
            ChangeView::rehearsed(&gateway, &earlier.policy.text)
        } else {
            let applied = apply(&gateway, &earlier.policy.text, &expected, &change_of(&caller, Origin::Rollback))?;
            ChangeView::done(&gateway, &applied)
        };
        let hash = gateway.snapshot().texts.policy.hash();
        let view = json!({ "to": to, "portfolio_differs": portfolio_differs, "change": change });
        Ok(([(header::ETAG, etag(&hash))], Json(view)).into_response())
    })
    .await
}

/// The generation to go back to, and its texts.
fn target(gateway: &Gateway, to: Option<u64>) -> Result<(u64, Texts), Problem> {
    let current = gateway.snapshot();
    let number = match to {
        Some(number) => number,
        None => {
            let hash = current.texts.policy.hash();
            let earlier = gateway.history().before(current.generation, |entry| entry.policy_hash != hash);
            earlier.map(|entry| entry.number).ok_or_else(|| {
                let message = "no earlier generation with another policy is remembered";
                let none = Problem::new(StatusCode::CONFLICT, "nothing-earlier", message);
                none.help("GET /api/v1/generations lists what is; put the policy file right by hand")
            })?
        }
    };
    Ok((number, texts(gateway, &number.to_string())?))
}

fn parse_id(text: &str) -> Result<Id, Problem> {
    text.parse().map_err(|message: String| {
        let bad = Problem::new(StatusCode::BAD_REQUEST, "bad-generation", message);
        bad.help("write a number such as `12`, or `r3` for the third refused attempt")
    })
}

/// The texts of a generation, of what is in force, or of the files.
fn texts(gateway: &Gateway, which: &str) -> Result<Texts, Problem> {
    match which {
        "file" => return Ok(texts_on_disk(&gateway.snapshot())),
        "current" => return Ok(gateway.snapshot().texts.clone()),
        _ => {}
    }
    let id = parse_id(which)?;
    if gateway.history().entry(id).is_none() {
        return Err(unknown(gateway, which));
    }
    let lost =
        |why| Problem::new(StatusCode::NOT_FOUND, "text-lost", format!("the texts of {which} cannot be read: {why}"));
    gateway.history().texts(id).map_err(lost)
}

fn unknown(gateway: &Gateway, which: &str) -> Problem {
    let none = Problem::new(StatusCode::NOT_FOUND, "unknown-generation", format!("{which} is not remembered"));
    let known = gateway.history().entries(usize::MAX);
    let numbers = known.iter().filter(|entry| entry.result == Outcome::Accepted).map(|entry| entry.number);
    match (numbers.clone().min(), numbers.max()) {
        (Some(first), Some(last)) if first < last => none.help(format!("those from {first} to {last} are")),
        (Some(only), _) => none.help(format!("only {only} is")),
        _ => none,
    }
}
