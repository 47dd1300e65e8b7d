//! Hard reasons why an endpoint may not be asked; each rejection keeps the number that decided.

use crate::facts::Facts;
use crate::fleet::{Availability, EndpointState, ModelFacts};
use crate::price::Period;

/// Why an endpoint was not considered.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// The pool does not serve the model.
    Model,
    /// The route does not allow the pool.
    Route,
    /// The route excludes the pool.
    Excluded,
    /// The route is pinned to other endpoints.
    Pinned,
    /// It would cost more than the class's ceiling.
    Price {
        /// US dollars it would cost.
        usd: f64,
        /// US dollars the class allows.
        ceiling: f64,
    },
    /// The pool has as many requests in flight as `[limits]` allows.
    Concurrency {
        /// Requests in flight in the pool.
        in_flight: u32,
        /// Requests allowed.
        allowed: u32,
    },
    /// A budget is used up, or is being used up too fast.
    Budget {
        /// What it is for.
        period: Period,
        /// US dollars spent in the period, with what is under way.
        spent_usd: f64,
        /// The budget, US dollars.
        usd: f64,
        /// Milliseconds until asking again may help.
        retry_in_ms: f64,
    },
    /// The pool's vendor serves as much as `[limits]` allows.
    VendorShare {
        /// Its part of all tokens with this request, 0 to 1.
        share: f64,
        /// The part that is allowed.
        allowed: f64,
    },
    /// The pool's site would draw more than it may.
    Power {
        /// What it would draw, kilowatts.
        kw: f64,
        /// What is allowed, kilowatts.
        allowed_kw: f64,
    },
    /// Prompt and answer do not fit.
    Context {
        /// Tokens the request may need.
        needed: u64,
        /// Tokens the model takes here.
        allowed: u64,
    },
    /// It failed too often just now.
    BreakerOpen {
        /// Milliseconds until a trial request is let through.
        retry_in_ms: f64,
    },
    /// It answered that it has too much work.
    BackPressure {
        /// Milliseconds until it may be asked again.
        retry_in_ms: f64,
    },
    /// It takes no new work.
    Draining,
    /// The provider's token limit is smaller than the request.
    BeyondLease {
        /// Tokens the provider would take for this request.
        needed: u64,
        /// Tokens it allows in a minute.
        allowed: u64,
    },
    /// The provider's request limit is used up.
    RequestLease {
        /// Milliseconds until a request may be sent again.
        ready_in_ms: f64,
    },
    /// The provider's token limit would be overrun.
    TokenLease {
        /// Tokens the provider would take for this request.
        needed: u64,
        /// Tokens left.
        left: u64,
        /// Milliseconds until enough have come back.
        ready_in_ms: f64,
    },
}

impl Rejection {
    /// Every name there is.
    pub const CODES: [&str; 16] = [
        "model",
        "route",
        "excluded",
        "pinned",
        "price",
        "concurrency",
        "budget",
        "vendor-share",
        "power",
        "context",
        "breaker-open",
        "back-pressure",
        "draining",
        "beyond-lease",
        "request-lease",
        "token-lease",
    ];

    /// The name in traces and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Rejection::Model => "model",
            Rejection::Route => "route",
            Rejection::Excluded => "excluded",
            Rejection::Pinned => "pinned",
            Rejection::Price { .. } => "price",
            Rejection::Concurrency { .. } => "concurrency",
            Rejection::Budget { .. } => "budget",
            Rejection::VendorShare { .. } => "vendor-share",
            Rejection::Power { .. } => "power",
            Rejection::Context { .. } => "context",
            Rejection::BreakerOpen { .. } => "breaker-open",
            Rejection::BackPressure { .. } => "back-pressure",
            Rejection::Draining => "draining",
            Rejection::BeyondLease { .. } => "beyond-lease",
            Rejection::RequestLease { .. } => "request-lease",
            Rejection::TokenLease { .. } => "token-lease",
        }
    }

    /// When this reason will have passed, milliseconds; `None` where waiting does not help.
    pub fn retry_in_ms(self) -> Option<f64> {
        match self {
            Rejection::Model
            | Rejection::Route
            | Rejection::Excluded
            | Rejection::Pinned
            | Rejection::Price { .. }
            | Rejection::Context { .. }
            | Rejection::BeyondLease { .. } => None,
            Rejection::Draining
            | Rejection::Concurrency { .. }
            | Rejection::VendorShare { .. }
            | Rejection::Power { .. } => Some(1_000.0),
            Rejection::BreakerOpen { retry_in_ms }
            | Rejection::BackPressure { retry_in_ms }
            | Rejection::Budget { retry_in_ms, .. } => Some(retry_in_ms),
            Rejection::RequestLease { ready_in_ms } | Rejection::TokenLease { ready_in_ms, .. } => Some(ready_in_ms),
        }
    }
}

/// Passes an endpoint of a pool that the route allows, or says why not; `fits` is whether the request
/// [fits] the model as the pool serves it.
#[inline]
pub fn filter(facts: &Facts<'_>, fits: Result<(), Rejection>, endpoint: &EndpointState) -> Result<(), Rejection> {
    available(endpoint)?;
    fits?;
    leased(facts, endpoint)
}

/// Whether a model is large enough. The prompt's length is an estimate, so only what clearly does not fit is held back: the
/// caller's own bound counts in full, the prompt with a tenth off.
pub fn fits(facts: &Facts<'_>, model: &ModelFacts) -> Result<(), Rejection> {
    let Some(allowed) = model.context else { return Ok(()) };
    let input_tokens = facts.input_tokens;
    // The bound is whatever the caller wrote: it may be larger than any sum.
    let needed = (input_tokens - input_tokens / 10).saturating_add(facts.max_output_tokens.unwrap_or(0));
    if needed > allowed { Err(Rejection::Context { needed, allowed }) } else { Ok(()) }
}

/// Whether an endpoint may be asked at all.
fn available(endpoint: &EndpointState) -> Result<(), Rejection> {
    match endpoint.availability {
        Availability::Ready => Ok(()),
        Availability::BreakerOpen { retry_in_ms } => Err(Rejection::BreakerOpen { retry_in_ms }),
        Availability::BackPressure { retry_in_ms } => Err(Rejection::BackPressure { retry_in_ms }),
        Availability::Draining => Err(Rejection::Draining),
    }
}

/// Whether its provider's limits allow it. Where the gateway holds what cannot be sent at once, a limit that will allow it
/// again is no reason against an endpoint but a wait.
fn leased(facts: &Facts<'_>, endpoint: &EndpointState) -> Result<(), Rejection> {
    let Some(lease) = endpoint.lease else { return Ok(()) };
    let needed = lease.needed_tokens(facts);
    if lease.tokens_capacity < needed as f64 {
        return Err(Rejection::BeyondLease { needed, allowed: lease.tokens_capacity as u64 });
    }
    if endpoint.window.is_some() {
        return Ok(());
    }
    if lease.requests < 1.0 {
        return Err(Rejection::RequestLease { ready_in_ms: lease.request_in_ms() });
    }
    if lease.tokens < needed as f64 {
        let ready_in_ms = lease.tokens_in_ms(needed);
        return Err(Rejection::TokenLease { needed, left: lease.tokens.max(0.0) as u64, ready_in_ms });
    }
    Ok(())
}
