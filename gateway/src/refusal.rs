//! The answers that the gateway gives instead of a machine's: a closed list, each with a status, a stable code, whose
//! fault it is and when to come back, in the caller's dialect.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;

/// Milliseconds variant of `retry-after` that the SDKs of this field honour.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// Why a request was not answered by a machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// No such path; carries it.
    UnknownPath(String),
    /// The path exists, the method does not; carries the one that does.
    WrongMethod(&'static str),
    /// The head is too large; carries the limit in words.
    HeadTooLarge(&'static str),
    /// A request header makes no sense.
    BadHeader {
        /// Its name.
        header: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The body is compressed or of an unknown type; carries what it claims to be.
    UnsupportedBody(String),
    /// The body is too large; carries the limit in bytes.
    BodyTooLarge(usize),
    /// The body stopped coming; carries the limit.
    BodyTimeout(Duration),
    /// The body ended before it was whole.
    BodyIncomplete(String),
    /// The body is not what the API takes.
    BadBody {
        /// The field at fault, where one can be named.
        field: Option<&'static str>,
        /// What is wrong with it.
        problem: String,
    },
    /// No pool serves the model.
    UnknownModel {
        /// As the client named it.
        model: String,
        /// The nearest there is.
        nearest: Option<String>,
    },
    /// The declared class is not in the policy.
    UnknownClass {
        /// As the client named it.
        class: String,
        /// The classes there are.
        known: String,
    },
    /// The request fits no machine that serves the model.
    ContextTooLong {
        /// Tokens needed.
        needed: u64,
        /// The most that any pool takes.
        allowed: u64,
    },
    /// The policy allows no pool that serves the model; carries the route's name.
    NoPoolAllowed(String),
    /// Every machine has too much to do.
    Saturated {
        /// When one will have room.
        retry_after: Duration,
    },
    /// No machine can be reached.
    Unavailable {
        /// When to try again.
        retry_after: Duration,
        /// What was tried and how it failed.
        tried: String,
    },
    /// No machine answered in time; carries what was tried.
    TimedOut(String),
    /// The machines refuse the gateway's own credentials or do not know the model; carries what was tried.
    Misconfigured(String),
    /// A defect of the gateway.
    Internal,
}

/// Whose fault a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller's.
    Caller,
    /// The machines' or their provider's.
    Machines,
    /// Whoever set up or wrote the gateway.
    Gateway,
}

impl Refusal {
    /// HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::UnknownPath(_) | Refusal::UnknownModel { .. } => StatusCode::NOT_FOUND,
            Refusal::WrongMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::BadHeader { .. }
            | Refusal::BodyIncomplete(_)
            | Refusal::BadBody { .. }
            | Refusal::UnknownClass { .. }
            | Refusal::ContextTooLong { .. } => StatusCode::BAD_REQUEST,
            Refusal::HeadTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::UnsupportedBody(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::BodyTimeout(_) => StatusCode::REQUEST_TIMEOUT,
            Refusal::Saturated { .. } => StatusCode::TOO_MANY_REQUESTS,
            Refusal::NoPoolAllowed(_) | Refusal::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            Refusal::Misconfigured(_) => StatusCode::BAD_GATEWAY,
            Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::UnknownPath(_) => "unknown_path",
            Refusal::WrongMethod(_) => "wrong_method",
            Refusal::HeadTooLarge(_) => "head_too_large",
            Refusal::BadHeader { .. } => "bad_header",
            Refusal::UnsupportedBody(_) => "unsupported_body",
            Refusal::BodyTooLarge(_) => "body_too_large",
            Refusal::BodyTimeout(_) => "body_timeout",
            Refusal::BodyIncomplete(_) => "body_incomplete",
            Refusal::BadBody { .. } => "bad_body",
            Refusal::UnknownModel { .. } => "model_not_found",
            Refusal::UnknownClass { .. } => "unknown_class",
            Refusal::ContextTooLong { .. } => "context_length_exceeded",
            Refusal::NoPoolAllowed(_) => "no_pool_allowed",
            Refusal::Saturated { .. } => "saturated",
            Refusal::Unavailable { .. } => "backends_unavailable",
            Refusal::TimedOut(_) => "backends_timed_out",
            Refusal::Misconfigured(_) => "backends_refused_gateway",
            Refusal::Internal => "internal",
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Refusal::Saturated { .. } | Refusal::Unavailable { .. } | Refusal::TimedOut(_) => Fault::Machines,
            Refusal::NoPoolAllowed(_) | Refusal::Misconfigured(_) | Refusal::Internal => Fault::Gateway,
            _ => Fault::Caller,
        }
    }

    /// What is wrong and what to do, for people.
    pub fn message(&self) -> String {
        match self {
            Refusal::UnknownPath(path) => format!(
                "there is nothing at `{path}`; this gateway serves /v1/chat/completions, /v1/completions, /v1/embeddings and /v1/models"
            ),
            Refusal::WrongMethod(allowed) => format!("this path takes {allowed}"),
            Refusal::HeadTooLarge(limit) => format!("the head of the request is larger than {limit}"),
            Refusal::BadHeader { header, problem } => format!("header `{header}`: {problem}"),
            Refusal::UnsupportedBody(found) => {
                format!("the body is of `{found}`; send uncompressed JSON with `content-type: application/json`")
            }
            Refusal::BodyTooLarge(limit) => {
                format!("the body is larger than the {limit} bytes that `limits.body_bytes` allows")
            }
            Refusal::BodyTimeout(limit) => format!("the body stopped coming for {limit:?}"),
            Refusal::BodyIncomplete(problem) => format!("the body ended early: {problem}"),
            Refusal::BadBody { problem, .. } => format!("the body cannot be used: {problem}"),
            Refusal::UnknownModel { model, nearest: Some(nearest) } => {
                format!("no pool serves the model `{model}`; did you mean `{nearest}`?")
            }
            Refusal::UnknownModel { model, nearest: None } => {
                format!("no pool serves the model `{model}`; GET /v1/models lists those there are")
            }
            Refusal::UnknownClass { class, known } => {
                format!("the policy has no class `{class}`; its classes are {known}")
            }
            Refusal::ContextTooLong { needed, allowed } => format!(
                "the request needs about {needed} tokens of context, the largest machine for this model takes {allowed}"
            ),
            Refusal::NoPoolAllowed(route) => {
                format!("the policy's route `{route}` allows no pool that serves this model")
            }
            Refusal::Saturated { .. } => "every machine that may serve this has as much as it can take".to_owned(),
            Refusal::Unavailable { tried, .. } => format!("no machine could be reached: {tried}"),
            Refusal::TimedOut(tried) => format!("no machine answered in time: {tried}"),
            Refusal::Misconfigured(tried) => format!("the machines refused the gateway, not you: {tried}"),
            Refusal::Internal => "the gateway failed on this request; the request id finds it in the logs".to_owned(),
        }
    }

    /// When to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::Saturated { retry_after } | Refusal::Unavailable { retry_after, .. } => Some(*retry_after),
            Refusal::TimedOut(_) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// As an OpenAI error object.
    pub fn json(&self) -> serde_json::Value {
        let kind = match (self.status(), self.fault()) {
            (StatusCode::TOO_MANY_REQUESTS, _) => "rate_limit_error",
            (_, Fault::Caller) => "invalid_request_error",
            (_, Fault::Machines | Fault::Gateway) => "server_error",
        };
        let param = match self {
            Refusal::BadBody { field, .. } => *field,
            Refusal::UnknownModel { .. } => Some("model"),
            Refusal::BadHeader { header, .. } => Some(*header),
            Refusal::UnknownClass { .. } => Some("x-pointsman-class"),
            _ => None,
        };
        json!({ "error": { "message": self.message(), "type": kind, "param": param, "code": self.code() } })
    }

    /// As an answer.
    pub fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.json().to_string()));
        *response.status_mut() = self.status();
        self.write_headers(response.headers_mut());
        response
    }

    fn write_headers(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Refusal::WrongMethod(allowed) = self {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        if let Some(wait) = self.retry_after() {
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000).max(1)));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms.max(1)));
        }
    }
}

/// The event that ends a stream that broke; every SDK raises an error on it.
pub fn broken_stream_event(message: &str) -> Bytes {
    let error = json!({
        "error": { "message": message, "type": "server_error", "param": null, "code": "stream_broken" }
    });
    Bytes::from(format!("data: {error}\n\n"))
}
