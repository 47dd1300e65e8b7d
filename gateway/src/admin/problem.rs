//! What an operator is told when the admin API refuses: `{"error": {"code", "message", "help"}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pointsman_policies::language::DiagnosticRecord;
use serde::Serialize;
use serde_json::json;

/// A refusal of the admin API.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// Its status.
    #[serde(skip)]
    pub status: StatusCode,
    /// Stable name of the kind of problem, kebab-case.
    pub code: &'static str,
    /// What is wrong: lower case, one fact, no full stop.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// What is wrong with the files, where that is why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<DiagnosticRecord>,
}

impl Problem {
    /// With a status, a code and what is wrong.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, code, message: message.into(), help: None, diagnostics: Vec::new() }
    }

    /// Adds advice.
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// Adds what is wrong with the files.
    pub fn diagnostics(mut self, diagnostics: Vec<DiagnosticRecord>) -> Problem {
        self.diagnostics = diagnostics;
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self }))).into_response()
    }
}
