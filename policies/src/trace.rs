//! The reasons of a decision in words and numbers, for logs, traces and people.

use std::fmt;

use crate::decide::Scored;
use crate::filter::Rejection;

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejection::Model => write!(f, "does not serve the model"),
            Rejection::Route => write!(f, "not a pool of the route"),
            Rejection::Excluded => write!(f, "the route excludes its pool"),
            Rejection::Pinned => write!(f, "the route is pinned to other endpoints"),
            Rejection::Price { usd, ceiling } => write!(f, "costs ${usd:.6}, the class allows ${ceiling:.6}"),
            Rejection::Concurrency { in_flight, allowed } => {
                write!(f, "its pool has {in_flight} requests in flight, `[limits]` allows {allowed}")
            }
            Rejection::Budget { period, spent_usd, usd, .. } if spent_usd >= usd => {
                write!(f, "the ${usd:.2} for this {} are used up", period.as_str())
            }
            Rejection::Budget { period, spent_usd, usd, .. } => {
                write!(f, "${spent_usd:.2} of the ${usd:.2} for this {} are spent, faster than evenly", period.as_str())
            }
            Rejection::VendorShare { share, allowed } => {
                let (share, allowed) = (share * 100.0, allowed * 100.0);
                write!(f, "its vendor would serve {share:.1} % of all tokens, `[limits]` allows {allowed:.1} %")
            }
            Rejection::Power { kw, allowed_kw } => {
                write!(f, "its site would draw {kw:.1} kW, may draw {allowed_kw:.1} kW")
            }
            Rejection::Context { needed, allowed } => write!(f, "needs {needed} tokens of context, has {allowed}"),
            Rejection::BeyondLease { needed, allowed } => {
                write!(f, "may take {needed} tokens, the provider allows {allowed} a minute")
            }
            Rejection::BreakerOpen { retry_in_ms } => write!(f, "breaker open, next trial in {retry_in_ms:.0} ms"),
            Rejection::BackPressure { retry_in_ms } => write!(f, "asked us to wait, {retry_in_ms:.0} ms left"),
            Rejection::Draining => write!(f, "draining"),
            Rejection::RequestLease { ready_in_ms } => {
                write!(f, "request limit used up, next in {ready_in_ms:.0} ms")
            }
            Rejection::TokenLease { needed, left, ready_in_ms } => {
                write!(f, "token limit: needs {needed}, {left} left, ready in {ready_in_ms:.0} ms")
            }
        }
    }
}

impl fmt::Display for Scored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scored { estimate, strain, effective_usd, room, score, home, lost: _ } = self;
        let word = if self.feasible() { "meets the slo" } else { "misses the slo" };
        write!(f, "{word} (strain {strain:.2}): ttft {:.1} ms", estimate.ttft_ms)?;
        write!(f, ", itl {:.2} ms, total {:.0} ms, ${:.6}", estimate.itl_ms, estimate.total_ms, estimate.usd)?;
        if let Some(joules) = estimate.joules {
            write!(f, ", {joules:.0} J")?;
        }
        if (effective_usd - estimate.usd).abs() > estimate.usd * 1e-6 {
            write!(f, ", counts as ${effective_usd:.6}")?;
        }
        write!(f, ", score {score:.6}{}", if *home { " (home)" } else { "" })?;
        if *room { Ok(()) } else { write!(f, ", held for {:.0} ms", estimate.wait_ms) }
    }
}
