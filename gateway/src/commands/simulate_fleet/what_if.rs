//! Other machines: one endpoint more, a limit that is raised, a site that is lost.

use anyhow::{anyhow, bail};
use pointsman_backends::portfolio::Portfolio;
use pointsman_policies::language::nearest;

use super::fleet::Fleet;

/// Pools that get an endpoint more where nothing is asked for; more would take long.
const MOST_POOLS: usize = 8;
/// Endpoints that a pool may have.
const MOST_ENDPOINTS: u32 = 100_000;

/// One change of the fleet.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// So many endpoints more, or fewer where negative.
    Endpoints(usize, i64),
    /// The provider's limits times this.
    Limits(usize, f64),
    /// Requests that an endpoint serves at once, times this.
    Slots(usize, f64),
    /// No endpoint of this site.
    WithoutSite(String),
}

impl Change {
    /// One endpoint more in each pool that serves the model; each site lost, where there are several.
    pub(super) fn usual(fleet: &Fleet) -> Vec<Change> {
        let serves = |pool: usize| fleet.pools().get(pool).is_some_and(|pool| pool.model(&fleet.model).is_some());
        let pools = (0..fleet.pools().len()).filter(|pool| serves(*pool)).take(MOST_POOLS);
        let mut changes: Vec<Change> = Vec::new();
        for pool in pools {
            changes.push(Change::Endpoints(pool, 1));
            if fleet.is_limited(pool) {
                changes.push(Change::Limits(pool, 2.0));
            }
        }
        let sites = sites(fleet);
        if sites.len() > 1 {
            changes.extend(sites.into_iter().map(|site| Change::WithoutSite(site.to_owned())));
        }
        changes
    }

    /// Parses `pool.NAME.endpoints+1`, `pool.NAME.limits*2`, `pool.NAME.slots*2`.
    pub(super) fn parse(text: &str, fleet: &Fleet) -> anyhow::Result<Change> {
        let wrong = || {
            anyhow!(
                "--what-if `{text}` cannot be read; write `pool.NAME.endpoints+1`, `-1` or `=4`, `pool.NAME.limits*2` or \
                 `pool.NAME.slots*2`"
            )
        };
        let rest = text.trim().strip_prefix("pool.").ok_or_else(wrong)?;
        let (name, rest) = rest
            .rsplit_once('.')
            .filter(|(_, rest)| rest.starts_with(char::is_alphabetic))
            .map_or_else(|| rest.split_once('.'), Some)
            .ok_or_else(wrong)?;
        let name = name.trim_matches('"');
        let Some(pool) = fleet.pool(name) else {
            let known = fleet.pools().iter().map(|pool| pool.name.as_str());
            bail!("--what-if: the portfolio has no pool `{name}`{}", near(name, known));
        };
        let at = rest.find(['+', '-', '=', '*']).ok_or_else(wrong)?;
        let (what, number) = (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default().trim());
        let sign = rest.get(at..=at).unwrap_or_default();
        let endpoints = fleet.pools().get(pool).map_or(0, |pool| pool.endpoints.len());
        match (what.trim(), sign) {
            ("endpoints", _) => {
                let number = number.parse::<u32>().ok().filter(|number| *number <= MOST_ENDPOINTS).ok_or_else(wrong)?;
                let (number, now) = (i64::from(number), i64::try_from(endpoints).unwrap_or(i64::MAX));
                match sign {
                    "+" => Ok(Change::Endpoints(pool, number)),
                    "-" => Ok(Change::Endpoints(pool, -number.min(now))),
                    "=" => Ok(Change::Endpoints(pool, number - now)),
                    _ => Err(wrong()),
                }
            }
            ("limits", "*") if !fleet.is_limited(pool) => {
                bail!("--what-if: pool `{name}` has no limits; add `limits` to `[pool.{name}]`, or leave this out")
            }
            ("limits", "*") => Ok(Change::Limits(pool, factor(number).ok_or_else(wrong)?)),
            ("slots", "*") => Ok(Change::Slots(pool, factor(number).ok_or_else(wrong)?)),
            _ => Err(wrong()),
        }
    }

    /// Without a site by its name.
    pub(super) fn without_site(name: &str, fleet: &Fleet) -> anyhow::Result<Change> {
        let known = sites(fleet);
        if !known.contains(&name) {
            bail!("--without-site: the portfolio has no site `{name}`{}", near(name, known.into_iter()));
        }
        Ok(Change::WithoutSite(name.to_owned()))
    }

    /// In words.
    pub(super) fn words(&self, fleet: &Fleet) -> String {
        let pool = |pool: &usize| fleet.pools().get(*pool).map_or("", |pool| pool.name.as_str());
        match self {
            Change::Endpoints(of, 1) => format!("one endpoint more of {}", pool(of)),
            Change::Endpoints(of, -1) => format!("one endpoint less of {}", pool(of)),
            Change::Endpoints(of, more) if *more >= 0 => format!("{more} endpoints more of {}", pool(of)),
            Change::Endpoints(of, less) => format!("{} endpoints less of {}", less.unsigned_abs(), pool(of)),
            Change::Limits(of, factor) => format!("limits of {} times {factor}", pool(of)),
            Change::Slots(of, factor) => format!("slots of {} times {factor}", pool(of)),
            Change::WithoutSite(site) => format!("without site {site}"),
        }
    }

    /// The fleet with it; or why it cannot be.
    pub(super) fn apply(&self, fleet: &Fleet) -> Result<Fleet, String> {
        let changed = fleet.changed(|portfolio| self.change(portfolio))?;
        if changed.endpoints() == 0 { Err("no endpoint is left".to_owned()) } else { Ok(changed) }
    }

    fn change(&self, portfolio: &mut Portfolio) {
        match self {
            Change::Endpoints(pool, more) if *more >= 0 => (0..*more).for_each(|_| portfolio.add_endpoint(*pool)),
            Change::Endpoints(pool, less) => {
                let now = portfolio.facts.get(*pool).map_or(0, |facts| facts.endpoints.len());
                let kept = now.saturating_sub(usize::try_from(less.unsigned_abs()).unwrap_or(usize::MAX));
                portfolio.retain_endpoints(|number, endpoint| endpoint.pool != *pool || number < kept);
            }
            Change::Limits(pool, factor) => {
                let Some(limits) = portfolio.pools.get_mut(*pool).and_then(|pool| pool.limits.as_mut()) else { return };
                limits.requests_per_minute = limits.requests_per_minute.map(|limit| limit * factor);
                limits.tokens_per_minute = limits.tokens_per_minute.map(|limit| limit * factor);
            }
            Change::Slots(pool, factor) => {
                let Some(facts) = portfolio.facts.get_mut(*pool) else { return };
                facts.service.slots = (f64::from(facts.service.slots) * factor).round().max(1.0) as u32;
            }
            Change::WithoutSite(site) => {
                let lost: Vec<bool> = portfolio.facts.iter().map(|facts| facts.site == *site).collect();
                portfolio.retain_endpoints(|_, endpoint| !lost.get(endpoint.pool).copied().unwrap_or(false));
            }
        }
    }
}

fn factor(text: &str) -> Option<f64> {
    text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor > 0.0)
}

fn near<'n>(name: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; it has {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// Sites with endpoints, in the order of the pools.
fn sites(fleet: &Fleet) -> Vec<&str> {
    let mut sites: Vec<&str> = Vec::new();
    for pool in fleet.pools().iter().filter(|pool| !pool.site.is_empty() && !pool.endpoints.is_empty()) {
        if !sites.contains(&pool.site.as_str()) {
            sites.push(&pool.site);
        }
    }
    sites
}
