//! Errors of a simulated machine, in the shape of the OpenAI dialect.

use std::time::Duration;

use http::StatusCode;
use pointsman_policies::units::Micros;
use serde_json::{Value, json};

use super::engine::Refused;
use crate::lease::Limit;

/// An error in the shape of the dialect.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Value,
}

impl Failure {
    pub(super) fn new(status: StatusCode, kind: &str, code: Option<&str>, message: &str) -> Failure {
        let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
        Failure { status, retry_after: None, body }
    }

    pub(super) fn invalid(message: &str, param: &str) -> Failure {
        let body =
            json!({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": null}});
        Failure { status: StatusCode::BAD_REQUEST, retry_after: None, body }
    }

    pub(super) fn unreadable(error: serde_json::Error) -> Failure {
        let message = format!("the body cannot be read: {error}");
        Failure::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, &message)
    }

    pub(super) fn unknown_model(name: &str) -> Failure {
        let message = format!("The model `{name}` does not exist or you do not have access to it.");
        Failure::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("model_not_found"), &message)
    }

    /// `real` turns the machine's time into the caller's.
    pub(super) fn refused(refused: Refused, real: impl Fn(Micros) -> Duration) -> Failure {
        match refused {
            Refused::RateLimited { limit, retry_after } => {
                let kind = match limit {
                    Limit::Requests => "requests",
                    Limit::Tokens => "tokens",
                };
                Failure::overloaded(kind, &format!("Rate limit reached on {kind} per minute."), real(retry_after))
            }
            Refused::QueueFull { retry_after } => {
                let message = "All slots and places in the queue are taken.";
                let failure =
                    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("queue_full"), message);
                Failure { retry_after: Some(real(retry_after)), ..failure }
            }
            Refused::Down => {
                let message = "The machine is down.";
                Failure::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("down"), message)
            }
            Refused::ContextTooLong { longest } => {
                let message = format!("This model's maximum context length is {longest} tokens.");
                let code = Some("context_length_exceeded");
                Failure::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, &message)
            }
        }
    }

    pub(super) fn overloaded(kind: &str, message: &str, retry_after: Duration) -> Failure {
        let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, kind, Some("rate_limit_exceeded"), message);
        Failure { retry_after: Some(retry_after), ..failure }
    }
}
