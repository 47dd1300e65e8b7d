//! `/api/v1/policy`: the policy in force as a text, and another in its place.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use pointsman_policies::language::{DiagnosticRecord, MAX_TEXT_BYTES, summary};
use serde::Serialize;

use super::guard::{self, Caller};
use super::off_thread;
use super::problem::Problem;
use super::query::Query;
use crate::apply::{Applied, Expected, apply, rehearse};
use crate::gateway::Gateway;
use crate::generations::comparison::FileComparison;
use crate::generations::entry::{Change, Origin};
use crate::snapshot::Snapshot;

/// Names the file that a policy text stands in, as diagnostics do.
pub const FILE_HEADER: &str = "x-pointsman-file";

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/policy", get(show)).route("/api/v1/policy/check", post(check))
}

/// What changes the policy.
pub fn changes() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/policy", put(change))
}

/// What came of a change, or would come of it.
#[derive(Debug, Serialize)]
pub(super) struct ChangeView {
    result: ChangeResult,
    /// The generation in force now.
    pub(super) generation: u64,
    /// The one in force before.
    before: u64,
    /// `NAME@GENERATION` in force now.
    policy: String,
    /// Hash of the policy text in force now, its ETag.
    policy_hash: String,
    /// What changes, in one line.
    summary: String,
    /// What changes.
    comparison: FileComparison,
    /// What is wrong or doubtful with the text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diagnostics: Vec<DiagnosticRecord>,
    /// Why a command could not put it in force, however good it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    hindrance: Option<Problem>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum ChangeResult {
    /// It is.
    InForce,
    /// It was already.
    Unchanged,
    /// It would be.
    WouldApply,
    /// It would be refused.
    WouldBeRefused,
}

impl ChangeView {
    pub(super) fn done(gateway: &Gateway, applied: &Applied) -> ChangeView {
        let Applied { before, after } = applied;
        let unchanged = before.generation == after.generation;
        let result = if unchanged { ChangeResult::Unchanged } else { ChangeResult::InForce };
        let comparison = FileComparison::of(&before.texts.policy, &after.texts.policy);
        let diagnostics = if unchanged { Vec::new() } else { gateway.reload_status().diagnostics.clone() };
        ChangeView { before: before.generation, ..ChangeView::new(after, result, comparison, diagnostics) }
    }

    pub(super) fn rehearsed(gateway: &Gateway, text: &str) -> ChangeView {
        let rehearsal = rehearse(gateway, text);
        let current = gateway.snapshot();
        let result = match rehearsal.good {
            true if rehearsal.comparison.same_text => ChangeResult::Unchanged,
            true => ChangeResult::WouldApply,
            false => ChangeResult::WouldBeRefused,
        };
        let view = ChangeView::new(&current, result, rehearsal.comparison, rehearsal.diagnostics);
        ChangeView { hindrance: rehearsal.hindrance, ..view }
    }

    fn new(
        current: &Snapshot,
        result: ChangeResult,
        comparison: FileComparison,
        diagnostics: Vec<DiagnosticRecord>,
    ) -> ChangeView {
        let told = match (&comparison.unreadable, comparison.same_text) {
            (Some(why), _) => why.clone(),
            (None, true) => "the same text".to_owned(),
            (None, false) => summary(&comparison.differences),
        };
        ChangeView {
            result,
            generation: current.generation,
            before: current.generation,
            policy: current.version.to_string(),
            policy_hash: current.texts.policy.hash(),
            summary: told,
            comparison,
            diagnostics,
            hindrance: None,
        }
    }
}

async fn show(State(gateway): State<Arc<Gateway>>) -> Response {
    let text = gateway.snapshot().texts.policy.clone();
    let file =
        HeaderValue::try_from(text.path.display().to_string()).unwrap_or(HeaderValue::from_static("policy.toml"));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/toml; charset=utf-8")),
        (header::ETAG, etag(&text.hash())),
        (HeaderName::from_static(FILE_HEADER), file),
    ];
    (headers, text.text.to_string()).into_response()
}

async fn change(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let dry_run = Query::read(&uri, &["dry_run"])?.flag("dry_run")?;
    let expected = expected(&headers)?;
    let text = policy_text(body).await?;
    off_thread(move || {
        if dry_run {
            return Ok(answer(&ChangeView::rehearsed(&gateway, &text)));
        }
        let expected = expected.ok_or_else(|| {
            let message = "a policy is replaced only if it is the one you have read";
            let missing = Problem::new(StatusCode::PRECONDITION_REQUIRED, "if-match-required", message);
            missing.help(
                "send `if-match` with the ETag of GET /api/v1/policy, or `if-match: *` to replace whatever is there",
            )
        })?;
        let change = change_of(&caller, Origin::Api);
        let applied = apply(&gateway, &text, &expected, &change)?;
        Ok(answer(&ChangeView::done(&gateway, &applied)))
    })
    .await
}

/// The same as a dry run, and open to those who may only read: also where the gateway is locked.
async fn check(State(gateway): State<Arc<Gateway>>, uri: Uri, body: Body) -> Result<Response, Problem> {
    Query::read(&uri, &[])?;
    let text = policy_text(body).await?;
    off_thread(move || Ok(answer(&ChangeView::rehearsed(&gateway, &text)))).await
}

pub(super) async fn policy_text(body: Body) -> Result<String, Problem> {
    let body = guard::body(body, MAX_TEXT_BYTES).await?;
    String::from_utf8(body.to_vec()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let message = format!("the text is not UTF-8: the byte at offset {at} is wrong");
        let problem = Problem::new(StatusCode::BAD_REQUEST, "not-utf8", message);
        problem.help("send the policy file as it is, with UTF-8 encoding")
    })
}

/// A change that a caller of the API makes.
pub fn change_of(caller: &Caller, origin: Origin) -> Change {
    Change { origin, who: caller.who.clone(), from: caller.address }
}

fn answer(view: &ChangeView) -> Response {
    ([(header::ETAG, etag(&view.policy_hash))], Json(serde_json::json!(view))).into_response()
}

/// The hash of a policy text as an ETag.
pub(super) fn etag(hash: &str) -> HeaderValue {
    HeaderValue::try_from(format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// What `if-match` asks for; `None` where there is none.
pub fn expected(headers: &HeaderMap) -> Result<Option<Expected>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "bad-if-match", "`if-match` is not text").help("send the ETag as it came")
    })?;
    if text.trim() == "*" {
        return Ok(Some(Expected::Any));
    }
    let hashes = text.split(',').map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"').to_owned());
    Ok(Some(Expected::OneOf(hashes.collect())))
}
