//! Bounds on all requests together.

use std::collections::BTreeMap;

use super::super::diagnostic::{Diagnostic, Severity, nearest};
use super::super::located::Located;
use super::super::schema::listed;
use super::super::shape::LimitsTable;
use super::Compiler;
use crate::fleet::PoolFacts;
use crate::policy::{Cap, Limits};

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
        let budgets = [table.usd_per_hour, table.usd_per_day, table.usd_per_month];
        self.budgets_fit(&budgets);
        let [usd_per_hour, usd_per_day, usd_per_month] = budgets.map(|usd| usd.map(|usd| usd.value));
        let vendor_share = self.caps(table.vendor_share, |pool| &pool.vendor);
        let site_power_kw = self.site_power(table.site_power_kw);
        Limits {
            pool_concurrency,
            vendor_share,
            site_power_kw,
            usd_per_hour,
            usd_per_day,
            usd_per_month,
            over_budget: table.over_budget.map(|over| over.value).unwrap_or_default(),
            usd_per_tonne_co2: table.usd_per_tonne_co2.map(|usd| usd.value),
        }
    }

    fn caps(&self, numbers: BTreeMap<Located<String>, Located<f64>>, get: fn(&PoolFacts) -> &String) -> Vec<Cap> {
        let cap = |(name, most): (Located<String>, Located<f64>)| {
            let meant = self.pools.iter().enumerate().filter(|(_, pool)| *get(pool) == name.value);
            Cap { pools: meant.map(|(index, _)| index).collect(), name: name.value, most: most.value }
        };
        numbers.into_iter().map(cap).collect()
    }

    /// The policy's bounds, and the portfolio's where they are lower or alone.
    fn site_power(&self, numbers: BTreeMap<Located<String>, Located<f64>>) -> Vec<Cap> {
        let mut caps = self.caps(numbers, |pool| &pool.site);
        for (index, pool) in self.pools.iter().enumerate() {
            let Some(most) = pool.power_cap_kw.filter(|_| !pool.site.is_empty()) else { continue };
            match caps.iter_mut().find(|cap| cap.name == pool.site) {
                Some(cap) => {
                    cap.most = cap.most.min(most);
                    if !cap.pools.contains(&index) {
                        cap.pools.push(index);
                    }
                }
                None => caps.push(Cap { name: pool.site.clone(), most, pools: vec![index] }),
            }
        }
        caps
    }

    /// A budget that a shorter one never lets be reached says nothing, which is rarely meant.
    fn budgets_fit(&mut self, budgets: &[Option<Located<f64>>; 3]) {
        const HOURS: [(f64, &str); 3] = [(1.0, "hour"), (24.0, "day"), (31.0 * 24.0, "month")];
        let given: Vec<_> = budgets.iter().zip(HOURS).filter_map(|(usd, span)| Some((usd.as_ref()?, span))).collect();
        for (index, (long, (hours, word))) in given.iter().enumerate() {
            let most = |short: &Located<f64>, of: f64| short.value * hours / of;
            let tighter = given.iter().take(index).find(|(short, (of, _))| most(short, *of) < long.value);
            let Some((short, (of, short_word))) = tighter else { continue };
            let message = format!("${} a {word} is never reached", long.value);
            let problem = Diagnostic::warning("budget-never-reached", message).at(long.span.clone());
            let help = format!("${} for each {short_word} are ${} a {word} at most", short.value, most(short, *of));
            self.report.push(problem.also(short.span.clone(), "the tighter budget").help(help));
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
