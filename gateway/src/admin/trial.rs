//! `/api/v1/trial`: how the candidate on trial does; another in its place, an end to it, its promotion.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use pointsman_policies::language::MAX_TEXT_BYTES;
use serde::Deserialize;
use serde_json::json;

use super::guard::{self, Caller};
use super::off_thread;
use super::policy::{ChangeView, change_of, etag, expected};
use super::problem::Problem;
use super::query::Query;
use crate::apply::{Applied, Expected, apply, expect};
use crate::config::candidate::{self, Candidate};
use crate::config::set::folder_of;
use crate::config::write;
use crate::gateway::Gateway;
use crate::generations::entry::{Change, Origin};
use crate::snapshot::Snapshot;
use crate::trial::file::{Wanted, with_trial, without_trial};
use crate::trial::tend::resume;
use crate::trial::view::TrialView;

/// Largest body, bytes: a policy as a JSON string, and a little more.
const MOST_BYTES: usize = 2 * MAX_TEXT_BYTES;
/// Name of a candidate that comes without one.
const DEFAULT_NAME: &str = "candidate.toml";

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/trial", get(show))
}

/// What changes the trial, and with it the policy file.
pub fn changes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/api/v1/trial", post(begin))
        .route("/api/v1/trial/stop", post(stop))
        .route("/api/v1/trial/promote", post(promote))
        .route("/api/v1/trial/resume", post(try_again))
}

/// What a trial is asked for with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    mode: Mode,
    /// The candidate's file, in the folder of the policy file or below; the present one where neither this nor `text` is
    /// given.
    policy: Option<String>,
    /// The candidate itself.
    text: Option<String>,
    /// What its file is to be called.
    name: Option<String>,
    sample: Option<f64>,
    share: Option<f64>,
    by: Option<String>,
    tenants: Option<Vec<String>>,
    margin: Option<f64>,
    confidence: Option<f64>,
    min_requests: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Shadow,
    Canary,
}

impl Wish {
    fn wanted(&self) -> Result<Wanted, Problem> {
        let of_canary = [
            ("share", self.share.is_some()),
            ("by", self.by.is_some()),
            ("tenants", self.tenants.is_some()),
            ("margin", self.margin.is_some()),
            ("confidence", self.confidence.is_some()),
            ("min_requests", self.min_requests.is_some()),
        ];
        let foreign = match self.mode {
            Mode::Shadow => of_canary.iter().find(|(_, given)| *given).map(|(key, _)| *key),
            Mode::Canary => self.sample.map(|_| "sample"),
        };
        if let Some(key) = foreign {
            let (mode, other) = if self.mode == Mode::Shadow { ("shadow", "canary") } else { ("canary", "shadow") };
            return Err(bad(format!("a {mode} has no `{key}`")).help(format!("that is for `\"mode\": \"{other}\"`")));
        }
        Ok(match self.mode {
            Mode::Shadow => Wanted::Shadow { sample: self.sample },
            Mode::Canary => Wanted::Canary {
                share: self.share,
                by: self.by.clone(),
                tenants: self.tenants.clone(),
                margin: self.margin,
                confidence: self.confidence,
                min_requests: self.min_requests,
            },
        })
    }
}

async fn show(State(gateway): State<Arc<Gateway>>, uri: Uri) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    let hash = gateway.snapshot().texts.policy.hash();
    Ok(([(header::ETAG, etag(&hash))], Json(TrialView::of(&gateway))).into_response())
}

async fn begin(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let expected = expected(&headers)?;
    let body = guard::body(body, MOST_BYTES).await?;
    let wish: Wish = serde_json::from_slice(&body).map_err(|error| {
        bad(format!("the body cannot be read: {error}"))
            .help("send `{\"mode\": \"shadow\"}` or `{\"mode\": \"canary\", \"share\": 0.05}`, with `policy` or `text`")
    })?;
    off_thread(move || {
        let (wanted, current) = (wish.wanted()?, gateway.snapshot());
        let (name, made) = candidate_file(&current, wish)?;
        let edited = edit(&current, |text| with_trial(text, &name, &wanted));
        let change = change_of(&caller, Origin::Api);
        let done = edited.and_then(|text| change_policy(&gateway, &current, &text, expected, &change));
        if let (Err(_), Some(made)) = (&done, &made) {
            let _ = std::fs::remove_file(made); // nobody has named it
        }
        done.map(|applied| answer(&gateway, &applied))
    })
    .await
}

async fn stop(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let expected = expected(&headers)?;
    off_thread(move || {
        let current = gateway.snapshot();
        candidate_of(&current)?;
        let text = edit(&current, without_trial)?;
        let applied = change_policy(&gateway, &current, &text, expected, &change_of(&caller, Origin::Api))?;
        Ok(answer(&gateway, &applied))
    })
    .await
}

async fn promote(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let expected = expected(&headers)?;
    off_thread(move || {
        let current = gateway.snapshot();
        let candidate = candidate_of(&current)?;
        if let Some(stopped) = gateway.trials().stopped(&candidate.hash) {
            let message = format!("`{}` was rolled back by its guard: {stopped}", candidate.policy.name);
            let refused = Problem::new(StatusCode::CONFLICT, "rolled-back", message);
            return Err(refused.help("change the candidate; or let it be tried again first: `pointsman policy resume`"));
        }
        let text = edit(&current, |_| Ok(candidate.text.to_string()))?;
        let applied = change_policy(&gateway, &current, &text, expected, &change_of(&caller, Origin::Promote))?;
        Ok(answer(&gateway, &applied))
    })
    .await
}

async fn try_again(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let expected = expected(&headers)?.unwrap_or(Expected::Any);
    off_thread(move || {
        let before = gateway.snapshot();
        expect(&expected, &before.texts.policy)?;
        candidate_of(&before)?;
        let after = resume(&gateway, &change_of(&caller, Origin::Api)).ok_or_else(|| {
            Problem::new(StatusCode::CONFLICT, "not-rolled-back", "the candidate was not rolled back")
                .help("`pointsman policy trial` tells how it does")
        })?;
        Ok(answer(&gateway, &Applied { before, after }))
    })
    .await
}

fn answer(gateway: &Gateway, applied: &Applied) -> Response {
    let view = json!({ "change": ChangeView::done(gateway, applied), "trial": TrialView::of(gateway) });
    ([(header::ETAG, etag(&applied.after.texts.policy.hash()))], Json(view)).into_response()
}

fn candidate_of(current: &Snapshot) -> Result<&Candidate, Problem> {
    current.candidate.as_ref().ok_or_else(|| {
        let none = Problem::new(StatusCode::CONFLICT, "no-trial", "no candidate is on trial");
        none.help(
            "begin one with `pointsman policy shadow FILE`, or write `[shadow]` or `[canary]` into the policy file",
        )
    })
}

/// The text of the policy in force with a change. An edit of the file that was refused must not be lost by it.
fn edit(
    current: &Snapshot,
    change: impl FnOnce(&str) -> Result<String, toml_edit::TomlError>,
) -> Result<String, Problem> {
    let policy = &current.texts.policy;
    let on_disk = std::fs::read(&policy.path).unwrap_or_default();
    if on_disk != policy.text.as_bytes() {
        let message = format!("`{}` holds another text than is in force", policy.path.display());
        let differs = Problem::new(StatusCode::CONFLICT, "file-differs", message);
        return Err(
            differs.help("mend that edit or take it back first; GET /api/v1/config tells what is wrong with it")
        );
    }
    change(&policy.text).map_err(|error| bad(format!("the policy file cannot be edited: {error}")))
}

fn change_policy(
    gateway: &Gateway,
    current: &Snapshot,
    text: &str,
    expected: Option<Expected>,
    change: &Change,
) -> Result<Applied, Problem> {
    if let Some(expected) = expected {
        expect(&expected, &current.texts.policy)?;
    }
    // What was edited is what must still be there.
    apply(gateway, text, &Expected::OneOf(vec![current.texts.policy.hash()]), change)
}

/// The name of the candidate's file as the policy file is to have it, and the file if it was made for this.
fn candidate_file(current: &Snapshot, wish: Wish) -> Result<(String, Option<PathBuf>), Problem> {
    let folder = folder_of(&current.texts.policy.path);
    let (name, text) = match (wish.policy, wish.text) {
        (Some(_), Some(_)) => return Err(bad("`policy` and `text` are both given").help("give one of them")),
        (Some(policy), None) => return Ok((inside(&policy)?, None)),
        (None, None) => {
            let present = current.policy.trial.as_ref().map(|trial| trial.policy.clone());
            let present = present.ok_or_else(|| bad("no candidate is given, and none is on trial"));
            return Ok((present.map_err(|problem| problem.help("give `policy` or `text`"))?, None));
        }
        (None, Some(text)) => (inside(wish.name.as_deref().unwrap_or(DEFAULT_NAME))?, text),
    };
    let same = |name: &str| std::fs::read(folder.join(name)).is_ok_and(|there| there == text.as_bytes());
    if same(&name) {
        return Ok((name, None));
    }
    // A file of that name that is there is somebody's: one with the text's hash in its name can only be this.
    let stem = name.strip_suffix(".toml").unwrap_or(&name);
    let hashed = format!("{stem}-{}.toml", candidate::hash(&text).get(..8).unwrap_or_default());
    let name = if folder.join(&name).exists() { hashed } else { name };
    if same(&name) {
        return Ok((name, None));
    }
    let file = folder.join(&name);
    write::replace(&file, text.as_bytes()).map_err(|error| {
        let message = format!("cannot write `{}`: {error}", file.display());
        let problem = Problem::new(StatusCode::CONFLICT, "file-not-writable", message);
        problem.help("put the candidate where the policy comes from, and name it with `policy`")
    })?;
    Ok((name, Some(file)))
}

/// A path that leads into the folder of the policy file and nowhere else.
fn inside(name: &str) -> Result<String, Problem> {
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if plain && path.extension().is_some_and(|extension| extension == "toml") {
        return Ok(name.to_owned());
    }
    let problem = bad(format!("`{name}` is not the name of a TOML file in the folder of the policy file"));
    Err(problem.help("write it like `candidate.toml`"))
}

fn bad(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-trial", message)
}
