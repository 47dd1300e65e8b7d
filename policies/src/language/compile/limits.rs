//! Bounds on all requests together.

use std::collections::BTreeMap;

use super::super::diagnostic::{Diagnostic, Severity, nearest};
use super::super::located::Located;
use super::super::schema::listed;
use super::super::shape::LimitsTable;
use super::Compiler;
use crate::fleet::PoolFacts;
use crate::policy::Limits;

impl Compiler<'_> {
    pub(super) fn compile_limits(&mut self, table: LimitsTable) -> Limits {
        let mut pool_concurrency = Vec::new();
        if !table.pool_concurrency.is_empty() {
            self.known_names("pool", table.pool_concurrency.keys(), Severity::Error, |pool| &pool.name);
            let allowed = |pool: &PoolFacts| {
                table
                    .pool_concurrency
                    .iter()
                    .find(|(name, _)| name.value == pool.name)
                    .map(|(_, allowed)| allowed.value)
            };
            pool_concurrency = self.pools.iter().map(allowed).collect();
        }
        self.known_names("vendor", table.vendor_share.keys(), Severity::Warning, |pool| &pool.vendor);
        self.known_names("site", table.site_power_kw.keys(), Severity::Warning, |pool| &pool.site);
        self.in_range("a share", &table.vendor_share, 1.0);
        self.in_range("a power", &table.site_power_kw, f64::MAX);
        for key in table.vendor_share.keys() {
            self.not_enforced(key.span.clone(), "`limits.vendor_share`");
        }
        for key in table.site_power_kw.keys() {
            self.not_enforced(key.span.clone(), "`limits.site_power_kw`");
        }
        let spend = [
            ("`limits.usd_per_hour`", &table.usd_per_hour),
            ("`limits.usd_per_day`", &table.usd_per_day),
            ("`limits.usd_per_month`", &table.usd_per_month),
        ];
        for (key, usd) in spend.into_iter().filter_map(|(key, usd)| Some((key, usd.as_ref()?))) {
            self.not_enforced(usd.span.clone(), key);
        }
        let plain = |map: BTreeMap<Located<String>, Located<f64>>| {
            map.into_iter().map(|(name, number)| (name.value, number.value)).collect()
        };
        Limits {
            pool_concurrency,
            vendor_share: plain(table.vendor_share),
            site_power_kw: plain(table.site_power_kw),
            usd_per_hour: table.usd_per_hour.map(|usd| usd.value),
            usd_per_day: table.usd_per_day.map(|usd| usd.value),
            usd_per_month: table.usd_per_month.map(|usd| usd.value),
        }
    }

    /// Tells of names that the portfolio does not have.
    fn known_names<'k>(
        &mut self,
        noun: &str,
        names: impl Iterator<Item = &'k Located<String>>,
        severity: Severity,
        get: fn(&PoolFacts) -> &String,
    ) {
        let mut known: Vec<&str> = self.pools.iter().map(|pool| get(pool).as_str()).collect();
        known.sort_unstable();
        known.dedup();
        for name in names.filter(|name| !known.is_empty() && !known.contains(&name.as_str())) {
            let help = match nearest(name, known.iter().copied()) {
                Some(guess) => format!("did you mean `{guess}`?"),
                None => format!("there {} only {}", if known.len() == 1 { "is" } else { "are" }, listed(&known, "and")),
            };
            let mut problem = Diagnostic::error("unknown-name", format!("there is no {noun} `{}`", name.value));
            problem.severity = severity;
            self.report.push(problem.at(name.span.clone()).help(help));
        }
    }

    fn in_range(&mut self, noun: &str, numbers: &BTreeMap<Located<String>, Located<f64>>, most: f64) {
        for (name, number) in numbers {
            if !(number.value > 0.0 && number.value <= most) {
                let message = format!("`{}` is not {noun}", number.value);
                let help = if most == 1.0 { "a share is more than 0 and at most 1" } else { "it is more than 0" };
                let problem = Diagnostic::error("out-of-range", message);
                self.report.push(problem.at(number.span.clone()).help(format!("{help}, for `{name}`")));
            }
        }
    }
}
