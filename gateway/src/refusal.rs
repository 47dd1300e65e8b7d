//! The answers that the gateway gives instead of a machine's: a closed list, each with a status, a stable code, whose
//! fault it is and when to come back, in the caller's dialect.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use pointsman_policies::refusal::Refusal as Unserved;
use serde_json::json;

use crate::identity::Unproven;
use crate::overload;
use crate::serve::strict::Flaw;

/// Milliseconds variant of `retry-after` that the SDKs of this field honour.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// Whoever has to wait longer is told to look again after this: by then everything may be different.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Why a request was not answered by a machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// No such path; carries it.
    UnknownPath(String),
    /// The path exists, the method does not; carries the one that does.
    WrongMethod(&'static str),
    /// The head is too large; carries the limit in words.
    HeadTooLarge(&'static str),
    /// The head can be read in more than one way, or in none.
    BadHead(Flaw),
    /// Something is expected of the gateway before the body comes that it does not know; carries it.
    UnknownExpectation(String),
    /// Nobody knows who calls.
    Unproven(Unproven),
    /// The caller may not do this; carries what, in words.
    Forbidden(String),
    /// Who calls cannot be found out now.
    IdentityUnavailable,
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
    /// The body came too slowly; carries the limit for all of it.
    BodyTooSlow(Duration),
    /// The caller has too many requests running; carries how many it may have.
    TooManyOfCaller(u32),
    /// The gateway is short of memory.
    Overloaded,
    /// The request goes in a circle; carries how often it came by.
    Loop(usize),
    /// The body ended before it was whole.
    BodyIncomplete(String),
    /// The body is not what the API takes.
    BadBody {
        /// The field at fault, where one can be named.
        field: Option<&'static str>,
        /// What is wrong with it.
        problem: String,
    },
    /// It gets no machine: what the decision says.
    Unserved(Unserved),
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
            Refusal::Unserved(unserved) => status(unserved),
            Refusal::Unproven(_) => StatusCode::UNAUTHORIZED,
            Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
            Refusal::IdentityUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::UnknownPath(_) => StatusCode::NOT_FOUND,
            Refusal::WrongMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::BadHead(_) | Refusal::BadHeader { .. } | Refusal::BodyIncomplete(_) | Refusal::BadBody { .. } => {
                StatusCode::BAD_REQUEST
            }
            Refusal::UnknownExpectation(_) => StatusCode::EXPECTATION_FAILED,
            Refusal::HeadTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::UnsupportedBody(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::BodyTimeout(_) | Refusal::BodyTooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Refusal::TooManyOfCaller(_) => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Loop(_) => StatusCode::LOOP_DETECTED,
            Refusal::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            Refusal::Misconfigured(_) => StatusCode::BAD_GATEWAY,
            Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Unproven(unproven) => unproven.code(),
            Refusal::Forbidden(_) => "permission_denied",
            Refusal::IdentityUnavailable => "identity_unavailable",
            Refusal::UnknownPath(_) => "unknown_path",
            Refusal::WrongMethod(_) => "wrong_method",
            Refusal::HeadTooLarge(_) => "head_too_large",
            Refusal::BadHead(_) => "bad_head",
            Refusal::UnknownExpectation(_) => "unknown_expectation",
            Refusal::BadHeader { .. } => "bad_header",
            Refusal::UnsupportedBody(_) => "unsupported_body",
            Refusal::BodyTooLarge(_) => "body_too_large",
            Refusal::BodyTimeout(_) => "body_timeout",
            Refusal::BodyTooSlow(_) => "body_too_slow",
            Refusal::TooManyOfCaller(_) => "too_many_requests_of_caller",
            Refusal::Overloaded => "gateway_overloaded",
            Refusal::Loop(_) => "request_loop",
            Refusal::BodyIncomplete(_) => "body_incomplete",
            Refusal::BadBody { .. } => "bad_body",
            Refusal::Unserved(unserved) => unserved.code(),
            Refusal::TimedOut(_) => "backends_timed_out",
            Refusal::Misconfigured(_) => "backends_refused_gateway",
            Refusal::Internal => "internal",
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Refusal::Unserved(Unserved::Saturated { .. } | Unserved::Unavailable { .. }) | Refusal::TimedOut(_) => {
                Fault::Machines
            }
            Refusal::Unserved(Unserved::NoPoolAllowed(_) | Unserved::OverBudget { .. })
            | Refusal::Misconfigured(_)
            | Refusal::IdentityUnavailable
            | Refusal::Overloaded
            | Refusal::Loop(_)
            | Refusal::Internal => Fault::Gateway,
            _ => Fault::Caller,
        }
    }

    /// What is wrong and what to do, for people.
    pub fn message(&self) -> String {
        match self {
            Refusal::UnknownPath(path) => format!(
                "there is nothing at `{path}`; this gateway serves /v1/chat/completions, /v1/completions, /v1/embeddings and /v1/models"
            ),
            Refusal::Unproven(unproven) => unproven.message(),
            Refusal::Forbidden(what) => format!("the caller is known and may not do this: {what}"),
            Refusal::IdentityUnavailable => {
                "the keys that would tell who calls cannot be had from their issuer now".to_owned()
            }
            Refusal::WrongMethod(allowed) => format!("this path takes {allowed}"),
            Refusal::HeadTooLarge(limit) => format!("the head of the request is larger than {limit}"),
            Refusal::BadHead(flaw) => format!("the head of the request cannot be trusted: {flaw}"),
            Refusal::UnknownExpectation(expected) => {
                format!("`expect: {expected}` is not known here; `100-continue` is, or leave it out")
            }
            Refusal::BadHeader { header, problem } => format!("header `{header}`: {problem}"),
            Refusal::UnsupportedBody(found) => {
                format!("the body is of `{found}`; send uncompressed JSON with `content-type: application/json`")
            }
            Refusal::BodyTooLarge(limit) => {
                format!("the body is larger than the {limit} bytes that `limits.body_bytes` allows")
            }
            Refusal::BodyTimeout(limit) => format!("the body stopped coming for {limit:?}"),
            Refusal::BodyTooSlow(limit) => {
                format!("the body was not whole within the {limit:?} that `timeouts.body_s` allows")
            }
            Refusal::TooManyOfCaller(most) => format!(
                "this caller has {most} requests running, as many as `limits.requests_per_caller` allows; wait for one to end"
            ),
            Refusal::Overloaded => {
                "the gateway is short of memory and takes nothing new of this kind; come back later".to_owned()
            }
            Refusal::Loop(turns) => format!(
                "the request has come by here {turns} times (`via`); an endpoint of the portfolio leads back to the gateway"
            ),
            Refusal::BodyIncomplete(problem) => format!("the body ended early: {problem}"),
            Refusal::BadBody { problem, .. } => format!("the body cannot be used: {problem}"),
            Refusal::Unserved(unserved) => unserved.message(),
            Refusal::TimedOut(tried) => format!("no machine answered in time: {tried}"),
            Refusal::Misconfigured(tried) => format!("the machines refused the gateway, not you: {tried}"),
            Refusal::Internal => "the gateway failed on this request; the request id finds it in the logs".to_owned(),
        }
    }

    /// When to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        let wait = match self {
            Refusal::Unserved(unserved) => unserved.retry_in_ms().map(|ms| Duration::from_millis(ms as u64)),
            Refusal::TimedOut(_) | Refusal::TooManyOfCaller(_) | Refusal::IdentityUnavailable => {
                Some(Duration::from_secs(1))
            }
            Refusal::Overloaded => Some(overload::COME_BACK),
            _ => None,
        };
        wait.map(|wait| wait.min(LONGEST_RETRY_AFTER))
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
            Refusal::Unserved(Unserved::UnknownModel { .. }) => Some("model"),
            Refusal::BadHeader { header, .. } => Some(*header),
            Refusal::Unserved(Unserved::UnknownClass { .. }) => Some("x-pointsman-class"),
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
        if let Refusal::Unproven(_) = self {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
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

impl From<Unproven> for Refusal {
    fn from(unproven: Unproven) -> Refusal {
        Refusal::Unproven(unproven)
    }
}

impl From<Unserved> for Refusal {
    fn from(unserved: Unserved) -> Refusal {
        Refusal::Unserved(unserved)
    }
}

fn status(unserved: &Unserved) -> StatusCode {
    match unserved {
        Unserved::UnknownModel { .. } => StatusCode::NOT_FOUND,
        Unserved::UnknownClass { .. } | Unserved::ContextTooLong { .. } => StatusCode::BAD_REQUEST,
        Unserved::Saturated { .. } | Unserved::OverBudget { .. } => StatusCode::TOO_MANY_REQUESTS,
        Unserved::NoPoolAllowed(_) | Unserved::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The event that ends a stream that broke; every SDK raises an error on it.
pub fn broken_stream_event(message: &str) -> Bytes {
    let error = json!({
        "error": { "message": message, "type": "server_error", "param": null, "code": "stream_broken" }
    });
    Bytes::from(format!("data: {error}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_stay_away_for_hours() {
        let wait = |retry_in_ms| Refusal::from(Unserved::Saturated { retry_in_ms }).retry_after();
        assert_eq!(wait(250.0), Some(Duration::from_millis(250)));
        assert_eq!(wait(7_200_000.0), Some(Duration::from_secs(60)));
    }
}
