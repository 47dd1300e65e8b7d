//! The files that are simulated, as they are or with other machines: the portfolio is read anew for each change, so that
//! the policy is compiled against the machines it then has.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use pointsman_backends::fleet::Fleet as Live;
use pointsman_backends::portfolio::{self, Portfolio, Secrets};
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::language::{Report, Source, compile, nearest};
use pointsman_policies::policy::Policy;

use crate::config::set::{self, ConfigSet, folder_of};
use crate::simulation::pointsman::Pointsman;
use crate::simulation::router::Router;
use crate::simulation::world::Setup;
use crate::snapshot::Snapshot;

/// A part of a pool this far from what it should be is no part of it, 0 to 1.
const UNEVEN: f64 = 0.05;

/// Machines, rules and the model that is asked for.
#[derive(Debug)]
pub(super) struct Fleet {
    set: ConfigSet,
    /// The model.
    pub(super) model: String,
    /// One endpoint of so many is simulated.
    pub(super) one_in: u32,
}

impl Fleet {
    /// Reads the files; `None` after telling what is wrong with them.
    pub(super) fn load(process_file: &Path, model: Option<&str>) -> anyhow::Result<Option<Fleet>> {
        let mut loaded = set::load(process_file, Secrets::Optional);
        let Some(set) = loaded.set.take() else {
            anstream::eprint!("{}", loaded.render(true));
            return Ok(None);
        };
        let model = model_of(&set.portfolio.facts, model)?;
        Ok(Some(Fleet { set, model, one_in: 1 }))
    }

    /// The rules.
    pub(super) fn policy(&self) -> &Policy {
        &self.set.policy
    }

    /// What is known of the pools.
    pub(super) fn pools(&self) -> &[PoolFacts] {
        &self.set.portfolio.facts
    }

    /// Index of a pool by its name.
    pub(super) fn pool(&self, name: &str) -> Option<usize> {
        self.pools().iter().position(|pool| pool.name == name)
    }

    /// Whether the pool's provider limits it.
    pub(super) fn is_limited(&self, pool: usize) -> bool {
        self.set.portfolio.pools.get(pool).is_some_and(|pool| pool.limits.is_some())
    }

    /// How many endpoints there are.
    pub(super) fn endpoints(&self) -> usize {
        self.set.portfolio.endpoints.len()
    }

    /// As the simulation wants it.
    pub(super) fn setup(&self) -> Setup<'_> {
        Setup { portfolio: &self.set.portfolio, policy: &self.set.policy, model: &self.model }
    }

    /// A gateway that knows nothing yet.
    pub(super) fn router(&self, seed: u64) -> Box<dyn Router> {
        let set = ConfigSet {
            process: self.set.process.clone(),
            portfolio: Arc::clone(&self.set.portfolio),
            policy: Arc::clone(&self.set.policy),
            candidate: None,
            texts: self.set.texts.clone(),
            hash: self.set.hash.clone(),
        };
        let snapshot = Snapshot::build(1, set, None, &Live::default());
        Box::new(Pointsman::new(Arc::new(snapshot), seed))
    }

    /// One in so many endpoints of every pool, with as much of its limits.
    pub(super) fn one_in(self, number: u32) -> anyhow::Result<Fleet> {
        if number == 1 {
            return Ok(self);
        }
        let every = number as usize;
        for pool in self.pools().iter().filter(|pool| !pool.endpoints.is_empty()) {
            let (all, kept) = (pool.endpoints.len(), pool.endpoints.len().div_ceil(every));
            if ((kept * every) as f64 / all as f64 - 1.0).abs() > UNEVEN {
                bail!(
                    "--one-in {number} does not divide pool `{}`, which has {all} endpoints; \
                     give a number that divides every pool nearly evenly, or leave it out",
                    pool.name
                );
            }
        }
        let part = self.changed(|portfolio| {
            portfolio.retain_endpoints(|number, _| number % every == 0);
            for limits in portfolio.pools.iter_mut().filter_map(|pool| pool.limits.as_mut()) {
                let less = |limit: f64| limit / f64::from(number);
                limits.requests_per_minute = limits.requests_per_minute.map(less);
                limits.tokens_per_minute = limits.tokens_per_minute.map(less);
            }
            for owed in portfolio.pools.iter_mut().filter_map(|pool| pool.commitment.as_mut()) {
                let less = |owed: f64| owed / f64::from(number);
                owed.usd_per_month = owed.usd_per_month.map(less);
                owed.tokens_per_month = owed.tokens_per_month.map(less);
            }
        });
        part.map(|fleet| Fleet { one_in: number, ..fleet }).map_err(anyhow::Error::msg)
    }

    /// The same with other machines; or why the policy cannot be used with them.
    pub(super) fn changed(&self, change: impl FnOnce(&mut Portfolio)) -> Result<Fleet, String> {
        let process = &self.set.process;
        let texts = &self.set.texts;
        let source = Source::new(process.portfolio.display().to_string(), &*texts.portfolio.text);
        let (portfolio, report) = portfolio::load(source, folder_of(&process.portfolio), Secrets::Optional);
        let Some(mut portfolio) = portfolio else { return Err(first_error(&report)) };
        if self.one_in > 1 {
            portfolio.retain_endpoints(|number, _| number % self.one_in as usize == 0);
            for (pool, ours) in portfolio.pools.iter_mut().zip(&self.set.portfolio.pools) {
                (pool.limits, pool.commitment) = (ours.limits, ours.commitment);
            }
        }
        change(&mut portfolio);
        let source = Source::new(process.policy.display().to_string(), &*texts.policy.text);
        let (policy, report) = compile(source, &portfolio.facts);
        let Some(policy) = policy else { return Err(first_error(&report)) };
        let set = ConfigSet {
            process: process.clone(),
            portfolio: Arc::new(portfolio),
            policy: Arc::new(policy),
            candidate: None,
            texts: texts.clone(),
            hash: self.set.hash.clone(),
        };
        Ok(Fleet { set, model: self.model.clone(), one_in: self.one_in })
    }
}

fn first_error(report: &Report) -> String {
    let errors = report.iter().map(|diagnostic| diagnostic.message.clone());
    errors.into_iter().next().unwrap_or_else(|| "the files cannot be used".to_owned())
}

/// The model that was named, if anybody serves it; else the one that most pools serve, the first of several.
fn model_of(pools: &[PoolFacts], wanted: Option<&str>) -> anyhow::Result<String> {
    let models = || pools.iter().flat_map(|pool| pool.models.iter().map(|model| model.name.as_str()));
    if let Some(wanted) = wanted {
        if models().any(|model| model == wanted) {
            return Ok(wanted.to_owned());
        }
        let help = match nearest(wanted, models()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name one that the portfolio has".to_owned(),
        };
        bail!("no pool serves the model `{wanted}`; {help}");
    }
    let served = |name: &str| models().filter(|model| *model == name).count();
    let most = models().max_by(|one, other| served(one).cmp(&served(other)).then_with(|| other.cmp(one)));
    match most {
        Some(most) => Ok(most.to_owned()),
        None => bail!("no pool of the portfolio serves a model; add `[pool.NAME.model.\"MODEL\"]`"),
    }
}
