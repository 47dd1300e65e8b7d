//! `/api/v1/config`: exactly what is in force, since when and by whom, and whether the files on disk differ from it.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use pointsman_backends::portfolio::Secrets;
use pointsman_policies::language::{DiagnosticRecord, Report};
use serde::Serialize;
use serde_json::Value;

use super::off_thread;
use super::problem::Problem;
use crate::config::set::{self, Text, Texts};
use crate::gateway::Gateway;
use crate::generations::comparison::Comparison;
use crate::generations::entry::{Entry, Id};
use crate::generations::texts_of;
use crate::reload;
use crate::snapshot::Snapshot;

/// What changes nothing.
pub fn reads() -> Router<Arc<Gateway>> {
    Router::new().route("/api/v1/config", get(show))
}

/// What is in force.
#[derive(Debug, Serialize)]
struct Effective {
    generation: u64,
    hash: String,
    /// `NAME@GENERATION`.
    policy: String,
    since: Option<String>,
    since_unix_ms: Option<u64>,
    who: Option<String>,
    source: Option<&'static str>,
    locked: bool,
    /// Where generations are kept, and why not where they are not.
    state: StateFolder,
    files: TextsView,
    on_disk: OnDisk,
}

#[derive(Debug, Serialize)]
struct StateFolder {
    folder: String,
    kept: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// The files with their texts.
#[derive(Debug, Serialize)]
pub(super) struct TextsView {
    process: TextView,
    portfolio: TextView,
    policy: TextView,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<TextView>,
}

#[derive(Debug, Serialize)]
struct TextView {
    path: String,
    hash: String,
    text: String,
}

/// How the files on disk compare with what is in force.
#[derive(Debug, Serialize)]
struct OnDisk {
    state: DiskState,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diagnostics: Vec<DiagnosticRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum DiskState {
    /// They are what is in force.
    Same,
    /// They are good and will be in force in a moment.
    Differs,
    /// They have errors, so they are not in force.
    Refused,
}

impl TextsView {
    pub(super) fn of(texts: &Texts) -> TextsView {
        let view = |text: &Text| TextView {
            path: text.path.display().to_string(),
            hash: text.hash(),
            text: text.text.to_string(),
        };
        TextsView {
            process: view(&texts.process),
            portfolio: view(&texts.portfolio),
            policy: view(&texts.policy),
            candidate: texts.candidate.as_ref().map(view),
        }
    }
}

async fn show(State(gateway): State<Arc<Gateway>>) -> Result<Json<Value>, Problem> {
    off_thread(move || Ok(Json(serde_json::json!(effective(&gateway))))).await
}

fn effective(gateway: &Gateway) -> Effective {
    let _settled = gateway.reloading(); // what is in force is remembered
    let snapshot = gateway.snapshot();
    let entry = gateway.history().entry(Id::Generation(snapshot.generation));
    let of = |field: fn(&Entry) -> String| entry.as_deref().map(field);
    let problem = gateway.history().forgetful();
    Effective {
        generation: snapshot.generation,
        hash: snapshot.hash.clone(),
        policy: snapshot.version.to_string(),
        since: of(|entry| entry.at.clone()),
        since_unix_ms: entry.as_ref().map(|entry| entry.at_unix_ms),
        who: of(|entry| entry.who.clone()),
        source: entry.as_ref().map(|entry| entry.source.as_str()),
        locked: snapshot.process.generations.locked,
        state: StateFolder { folder: snapshot.process.state.display().to_string(), kept: problem.is_none(), problem },
        files: TextsView::of(&snapshot.texts),
        on_disk: on_disk(&snapshot),
    }
}

fn on_disk(snapshot: &Snapshot) -> OnDisk {
    let process_file = &snapshot.texts.process.path;
    if set::look(process_file, &snapshot.process).hash == snapshot.hash {
        return OnDisk { state: DiskState::Same, summary: None, comparison: None, diagnostics: Vec::new() };
    }
    let mut loaded = set::load(process_file, Secrets::Required);
    reload::refuse_fixed_keys(&mut loaded, process_file, snapshot);
    let state = if loaded.set.is_some() { DiskState::Differs } else { DiskState::Refused };
    let comparison = Comparison::of(&snapshot.texts, &texts_of(&loaded, process_file, &snapshot.texts).masked());
    OnDisk {
        state,
        summary: Some(comparison.summary()),
        comparison: Some(comparison),
        diagnostics: loaded.reports.iter().flat_map(Report::records).collect(),
    }
}

/// The texts of the files as they are now, without what may be a secret.
pub(super) fn texts_on_disk(snapshot: &Snapshot) -> Texts {
    let read = |text: &Text| Text { path: text.path.clone(), text: read_text(&text.path).into() };
    let texts = &snapshot.texts;
    let on_disk = Texts {
        process: read(&texts.process),
        portfolio: read(&texts.portfolio),
        policy: read(&texts.policy),
        candidate: texts.candidate.as_ref().map(read),
    };
    on_disk.masked()
}

fn read_text(path: &Path) -> String {
    set::read_source(path).map(|source| source.text).unwrap_or_default()
}
