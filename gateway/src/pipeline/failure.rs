//! Why attempts fail, what that says of the machine, and what the caller hears when all have failed.

use std::time::{Duration, SystemTime};

use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use pointsman_backends::connect::ConnectError;
use pointsman_backends::fleet::Verdict;
use pointsman_policies::refusal::Refusal as Unserved;
use pointsman_policies::units::Micros;

use crate::gateway::Gateway;
use crate::record::{OUT_OF_LEASE, OVERLOADED, Record};
use crate::refusal::Refusal;
use crate::snapshot::Target;

/// How long a machine that says "too much" without saying for how long is left alone.
const DEFAULT_BACK_PRESSURE: Micros = Micros::from_secs(1);
/// A machine that asks for more is asked again after this.
const LONGEST_BACK_PRESSURE: Micros = Micros::from_secs(60);
/// How long clients are asked to wait when every attempt failed.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Why an attempt failed.
pub(super) struct Failure {
    pub(super) cause: &'static str,
    pub(super) message: String,
    pub(super) status: Option<u16>,
    pub(super) verdict: Verdict,
    pub(super) taken: bool,
}

/// Every attempt failed: the caller hears the kindest truth.
pub(super) fn refuse(failures: &[&Failure], tried: String) -> Refusal {
    let all = |test: fn(&Failure) -> bool| !failures.is_empty() && failures.iter().all(|failure| test(failure));
    let waits = failures.iter().filter_map(|failure| match failure.verdict {
        Verdict::BackPressure(wait) => Some(Duration::from_micros(wait.0)),
        _ => None,
    });
    let retry_in_ms = waits.min().unwrap_or(RETRY_AFTER_FAILURE).as_secs_f64() * 1e3;
    if all(|failure| matches!(failure.verdict, Verdict::BackPressure(_))) {
        Unserved::Saturated { retry_in_ms }.into()
    } else if all(|failure| failure.cause == "timeout") {
        Refusal::TimedOut(tried)
    } else if all(|failure| matches!(failure.cause, "unauthorized" | "not-found")) {
        Refusal::Misconfigured(tried)
    } else {
        Unserved::Unavailable { retry_in_ms, tried }.into()
    }
}

/// Whether a request may be tried once more, by its route's budgets; the record remembers where its requests have been
/// tried too often.
pub(super) fn may_retry(gateway: &Gateway, record: &mut Record) -> bool {
    let Some(made) = &record.decision else { return true };
    let Some(route) = made.deciding().policy.routes.get(made.route) else { return false };
    if !record.tried().may_go_on(&route.budgets) {
        return false;
    }
    let spent = gateway.route_accounts().retry(made, gateway.fleet().now()).err();
    gateway.telemetry().metrics().retry(&route.name, spent.is_none());
    record.retries_spent = spent;
    spent.is_none()
}

impl Failure {
    pub(super) fn connect(error: &ConnectError) -> Failure {
        let taken = matches!(error, ConnectError::Closed(..));
        Failure { cause: error.as_str(), message: error.to_string(), status: None, verdict: Verdict::Failed, taken }
    }

    pub(super) fn out_of_lease(wait: Micros) -> Failure {
        let message = "the provider's limit was used up by another request".to_owned();
        Failure { cause: OUT_OF_LEASE, message, status: None, verdict: Verdict::BackPressure(wait), taken: false }
    }

    /// A machine that does not stream is silent while it works, so its silence says nothing against it.
    pub(super) fn timed_out(limit: Duration, stream: bool) -> Failure {
        let message = format!("no first byte within {:.1} s", limit.as_secs_f64());
        let verdict = if stream { Verdict::Failed } else { Verdict::Neutral };
        Failure { cause: "timeout", message, status: None, verdict, taken: true }
    }

    /// The machine's own list of models says so.
    pub(super) fn not_listed() -> Failure {
        let message = "it does not list the model".to_owned();
        Failure { cause: "not-found", message, status: None, verdict: Verdict::Neutral, taken: false }
    }

    pub(super) fn broke_before_first_byte(message: String) -> Failure {
        Failure { cause: "broken", message, status: Some(200), verdict: Verdict::Failed, taken: true }
    }

    /// What a status other than success says of the machine; `None` where it is the caller's mistake.
    pub(super) fn of_status(
        target: Target<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        said: String,
    ) -> Option<Failure> {
        let (cause, verdict) = match status.as_u16() {
            429 | 503 | 529 => (OVERLOADED, Verdict::BackPressure(retry_after(headers, SystemTime::now()))),
            401..=403 if !target.pool.forward_authorization => ("unauthorized", Verdict::Neutral),
            404 => ("not-found", Verdict::Neutral),
            400..=499 => return None,
            508 => return None, // it goes in a circle: tried again it goes round again, and twice as often each turn
            500..=599 => ("server-error", Verdict::Failed),
            _ => ("bad-status", Verdict::Failed),
        };
        // Providers repeat keys they refuse, so what they say of ours goes nowhere.
        let silent = said.is_empty() || cause == "unauthorized";
        let said = if silent { String::new() } else { format!(", it says: {said}") };
        let message = format!("status {}{said}", status.as_u16());
        Some(Failure { cause, message, status: Some(status.as_u16()), verdict, taken: cause == "server-error" })
    }
}

/// How long a machine wants to be left alone: milliseconds or seconds, or a date by the clock of this host.
fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Micros {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: HeaderName| text(name)?.parse::<f64>().ok();
    let date = || httpdate::parse_http_date(text(RETRY_AFTER)?).ok();
    let until = || Some(date()?.duration_since(wall).unwrap_or_default().as_secs_f64() * 1e3);
    let ms = number(HeaderName::from_static("retry-after-ms"));
    let ms = ms.or_else(|| number(RETRY_AFTER).map(|seconds| seconds * 1e3)).or_else(until);
    let wait = ms.filter(|ms| ms.is_finite() && *ms >= 0.0).map_or(DEFAULT_BACK_PRESSURE, Micros::from_ms);
    wait.min(LONGEST_BACK_PRESSURE)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_machines_ask_for_is_read_in_every_form_and_bounded() {
        let wall = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (name, value, expected_ms) in [
            ("retry-after-ms", "250", 250),
            ("retry-after", "7", 7_000),
            ("retry-after", "1.5", 1_500),
            ("retry-after", "86400", 60_000),
            ("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT", 3_000),
            ("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT", 0),
            ("retry-after", "Mon, 06 Nov 2034 08:49:00 GMT", 60_000),
            ("retry-after", "-1", 1_000),
            ("retry-after", "NaN", 1_000),
            ("retry-after", "soon", 1_000),
            ("x", "5", 1_000),
        ] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            assert_eq!(retry_after(&headers, wall), Micros(expected_ms * 1_000), "{name}: {value}");
        }
    }
}
