//! What a route keeps together, tries again, and waits for.

use super::super::diagnostic::Diagnostic;
use super::super::located::Located;
use super::super::quantity::{self, Unit};
use super::super::shape::{AffinityTable, HedgeTable, RetryTable, TimeoutsTable};
use super::Compiler;
use crate::policy::{Affinity, AffinityKey, Budgets, Hedge, HedgeAfter};

impl Compiler<'_> {
    pub(super) fn affinity(&mut self, table: &AffinityTable) -> Option<Affinity> {
        let by = match table.by.as_str() {
            "session" => AffinityKey::Session,
            "tenant" => AffinityKey::Tenant,
            text => match text.strip_prefix("header:").map(str::trim).filter(|name| !name.is_empty()) {
                Some(name) => {
                    let name = name.to_lowercase();
                    self.reads.headers.insert(name.clone());
                    AffinityKey::Header(name)
                }
                None => {
                    let problem = Diagnostic::error("unknown-name", format!("nothing is kept together by `{text}`"));
                    let help = "write `session`, `tenant`, or a header like `header:x-user`";
                    self.report.push(problem.at(table.by.span.clone()).help(help));
                    return None;
                }
            },
        };
        Some(Affinity { by, homes: table.homes, permille: (table.weight * 1000.0).round() as u32 })
    }

    pub(super) fn hedge(&mut self, table: &Located<HedgeTable>) -> Option<Hedge> {
        let class = table.class.as_ref().map(|name| self.class_id(name));
        let after = match hedge_after(&table.after) {
            Some(after) => after,
            None => {
                let problem = Diagnostic::error("bad-quantity", format!("`{}` is no moment", table.after.value));
                let help = "write a quantile like `p95` or a time like `200ms`";
                self.report.push(problem.at(table.after.span.clone()).help(help));
                return None;
            }
        };
        match class {
            Some(None) => None,
            class => Some(Hedge { after, class: class.flatten(), budget: table.budget }),
        }
    }

    pub(super) fn budgets(&mut self, retry: Option<&Located<RetryTable>>, timeouts: Option<&TimeoutsTable>) -> Budgets {
        let default = Budgets::default();
        let share = retry.and_then(|retry| retry.budget);
        let first_byte = timeouts.and_then(|timeouts| timeouts.first_byte_ms.as_ref());
        let total = timeouts.and_then(|timeouts| timeouts.total_s.as_ref());
        Budgets {
            attempts: retry.and_then(|retry| retry.attempts).unwrap_or(default.attempts),
            first_byte_ms: first_byte.and_then(|span| quantity::ms(self.report, span, Unit::Ms)),
            total_ms: total.and_then(|span| quantity::ms(self.report, span, Unit::S)),
            retry_share: share,
        }
    }
}

/// `p95`, `p99.9`, `200ms`.
fn hedge_after(text: &str) -> Option<HedgeAfter> {
    if let Some(percent) = text.strip_prefix('p') {
        let percent: f64 = percent.parse().ok()?;
        return (percent > 0.0 && percent < 100.0).then_some(HedgeAfter::Quantile(percent / 100.0));
    }
    quantity::milliseconds(text).ok().filter(|ms| *ms > 0.0).map(HedgeAfter::Ms)
}
