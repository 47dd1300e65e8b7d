//! `/api/v1/record`: recording of decisions on and off, and how it goes.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::Deserialize;

use super::guard::Caller;
use super::policy::change_of;
use super::problem::Problem;
use crate::decision_log::Recording;
use crate::decision_log::writer::LogFiles;
use crate::gateway::Gateway;
use crate::generations::entry::Origin;

/// Longest name of a file that is taken from a request, bytes.
const LONGEST_NAME: usize = 128;

/// What a change asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// Whether to record.
    on: bool,
    /// Into which file of the state folder; the process file's where not given.
    file: Option<String>,
}

/// How the recording goes.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/record", get(recording))
}

/// On and off.
pub fn changes() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/record", post(change))
}

async fn recording(State(gateway): State<Arc<Gateway>>) -> Json<Recording> {
    Json(gateway.telemetry().recorder().recording())
}

/// Asking for what is so already changes nothing.
async fn change(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Json<Recording>, Problem> {
    let wish: Wish = serde_json::from_slice(&body).map_err(|error| {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "bad-body", format!("the body cannot be read: {error}"));
        problem.help("send `{\"on\": true}`, `{\"on\": true, \"file\": \"NAME\"}` or `{\"on\": false}`")
    })?;
    let recorder = gateway.telemetry().recorder();
    let now = recorder.recording();
    if !wish.on {
        recorder.stop().await;
        if now.on {
            note(&gateway, &caller, "recording of decisions ended");
        }
        return Ok(Json(recorder.recording()));
    }
    let files = files(&gateway, wish.file.as_deref())?;
    if !now.on || now.file.as_ref() != Some(&files.file) {
        let begun = format!("recording of decisions began into `{}`", files.file.display());
        recorder.start(files).await.map_err(|error| {
            let problem = Problem::new(StatusCode::CONFLICT, "cannot-record", error.to_string());
            problem.help("check that the folder is there, that the gateway may write it and that the disk has room")
        })?;
        note(&gateway, &caller, &begun);
    }
    Ok(Json(recorder.recording()))
}

fn note(gateway: &Gateway, caller: &Caller, what: &str) {
    gateway.history().noted(&gateway.snapshot(), &change_of(caller, Origin::Api), what);
}

fn files(gateway: &Gateway, name: Option<&str>) -> Result<LogFiles, Problem> {
    let snapshot = gateway.snapshot();
    let (files, state) = (snapshot.process.record.files.clone(), &snapshot.process.state);
    if let Some(name) = name {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > LONGEST_NAME || name.starts_with('.') || !name.chars().all(plain) {
            let message = format!("`{name}` is not the plain name of a file");
            let problem = Problem::new(StatusCode::BAD_REQUEST, "bad-file", message);
            return Err(problem.help("use letters, digits, `-`, `_` and `.`; it goes into the state folder"));
        }
    }
    let file = name.map_or(files.file.clone(), |name| state.join(name));
    if file.starts_with(state) {
        // Where it cannot be made, opening the file says so.
        let _ = std::fs::create_dir_all(state);
    }
    Ok(LogFiles { file, ..files })
}
