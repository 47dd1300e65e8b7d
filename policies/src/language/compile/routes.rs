//! Routes, with the pools they allow. A selector that reads nothing of the request is decided here, once.

use super::super::diagnostic::{Diagnostic, nearest};
use super::super::expression::Key;
use super::super::located::Located;
use super::super::schema::listed;
use super::super::shape::{ObjectiveName, RouteTable, SpillName, WeightsTable};
use super::Compiler;
use crate::facts::{Api, Facts};
use crate::policy::{Env, Objective, PoolSelector, Route, Spill, Weights};

impl Compiler<'_> {
    /// The routes in file order, up to the first that always applies; one that does is added where the file has none.
    pub(super) fn compile_routes(&mut self, tables: Vec<Located<RouteTable>>) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        let mut closed = false;
        for (index, table) in tables.into_iter().enumerate() {
            let dead = closed;
            self.check_reachable(&mut closed, &table.span, table.when.is_none(), "route");
            let name = self.route_name(&table.value, index, &names);
            names.push(name.clone());
            let route = self.compile_route(table.value, name);
            routes.extend(route.filter(|_| !dead));
        }
        if routes.last().is_none_or(|last| last.when.is_some()) {
            let taken = names.iter().any(|name| name == "default");
            let name = if taken { "otherwise" } else { "default" }.to_owned();
            routes.push(Route::everything(name));
        }
        routes
    }

    fn route_name(&mut self, table: &RouteTable, index: usize, names: &[String]) -> String {
        let Some(name) = &table.name else { return format!("route-{}", index + 1) };
        self.check_name("route", name);
        if names.contains(name) {
            let problem = Diagnostic::error("duplicate-name", format!("there is another route named `{}`", name.value));
            self.report.push(problem.at(name.span.clone()).help("traces tell routes apart by name"));
        }
        name.value.clone()
    }

    fn compile_route(&mut self, table: RouteTable, name: String) -> Option<Route> {
        let when = match &table.when {
            Some(text) => self.check(text, Key::RouteWhen).map(|checked| Some(checked.condition)),
            None => Some(None),
        };
        let tiers = self.tiers(&table);
        let exclude = match &table.exclude {
            Some(text) => self.selector(text, Key::RouteExclude).map(Some),
            None => Some(None),
        };
        let pin = match &table.pin {
            Some(names) => self.pin(names).map(Some),
            None => Some(None),
        };
        let affinity = match &table.affinity {
            Some(table) => self.affinity(table).map(Some),
            None => Some(None),
        };
        let hedge = match &table.hedge {
            Some(table) => self.hedge(table).map(Some),
            None => Some(None),
        };
        let budgets = self.budgets(table.retry.as_ref(), table.timeouts.as_ref());
        let spill = self.spill(&table);
        let objective = self.objective(table.objective, table.weights);
        Some(Route {
            name,
            when: when?,
            tiers: tiers?,
            spill,
            exclude: exclude?,
            pin: pin?,
            objective: objective?,
            affinity: affinity?,
            hedge: hedge?,
            budgets,
        })
    }

    /// The route's own pools and those of its fallbacks.
    fn tiers(&mut self, table: &RouteTable) -> Option<Vec<PoolSelector>> {
        let own = match &table.pools {
            Some(text) => self.selector(text, Key::RoutePools),
            None => Some(PoolSelector::All),
        };
        let fallbacks = table.fallback.iter().flatten();
        let tiers: Vec<_> =
            std::iter::once(own).chain(fallbacks.map(|tier| self.selector(&tier.pools, Key::RouteFallback))).collect();
        tiers.into_iter().collect()
    }

    fn spill(&mut self, table: &RouteTable) -> Spill {
        let Some(spill) = &table.spill else { return Spill::default() };
        if table.fallback.is_none() && self.whole {
            let problem = Diagnostic::error("no-fallback", "`spill` has no use without `fallback`");
            let help = "for example `fallback = [{ pools = 'pool.hardware.kind == \"cloud\"' }]`";
            self.report.push(problem.at(spill.span.clone()).help(help));
        }
        match spill.value {
            SpillName::Unavailable => Spill::Unavailable,
            SpillName::SloAtRisk => Spill::SloAtRisk,
        }
    }

    fn selector(&mut self, text: &Located<String>, key: Key) -> Option<PoolSelector> {
        let checked = self.check(text, key)?;
        if checked.reads.request || checked.reads.load {
            return Some(PoolSelector::PerRequest(checked.condition));
        }
        // The expression reads neither request nor load, so any will do.
        let facts = Facts::plain(Api::ChatCompletions, "");
        let env = Env { facts: &facts, class: "", pool: None, load: None, utc_offset_s: 0 };
        let allows = |pool| checked.condition.holds(&Env { pool: Some(pool), ..env });
        let flags: Vec<bool> = self.pools.iter().map(allows).collect();
        if flags.contains(&true) || flags.is_empty() {
            return Some(PoolSelector::Fixed(flags));
        }
        let names: Vec<&str> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
        let help = format!("the portfolio has {}", listed(&names, "and"));
        if key == Key::RouteExclude {
            let problem = Diagnostic::warning("no-pool", "no pool is excluded by this").at(text.span.clone());
            self.report.push(problem.help(help));
            return Some(PoolSelector::Fixed(flags));
        }
        self.report.push(Diagnostic::error("no-pool", "no pool is allowed").at(text.span.clone()).help(help));
        None
    }

    /// Places of endpoints in the fleet view.
    fn pin(&mut self, names: &[Located<String>]) -> Option<Vec<usize>> {
        let mut pinned = Vec::new();
        let mut sound = true;
        for name in names {
            let mut first = 0;
            let mut found = self.pools.is_empty(); // there is nothing to check against
            for pool in self.pools {
                let whole = pool.name == name.value;
                let matching =
                    pool.endpoints.iter().enumerate().filter(|(_, endpoint)| whole || **endpoint == name.value);
                let before = pinned.len();
                pinned.extend(matching.map(|(at, _)| first + at));
                found |= whole || pinned.len() > before;
                first += pool.endpoints.len();
            }
            if !found {
                sound = false;
                self.unknown_endpoint(name);
            }
        }
        pinned.sort_unstable();
        pinned.dedup();
        sound.then_some(pinned)
    }

    fn unknown_endpoint(&mut self, name: &Located<String>) {
        let known: Vec<&str> = self
            .pools
            .iter()
            .flat_map(|pool| std::iter::once(&pool.name).chain(&pool.endpoints))
            .map(String::as_str)
            .collect();
        let help = match nearest(name, known.iter().copied()) {
            Some(guess) => format!("did you mean `{guess}`?"),
            None => format!("the portfolio has {}", listed(&known, "and")),
        };
        let problem = Diagnostic::error("unknown-name", format!("there is no pool or endpoint `{}`", name.value));
        self.report.push(problem.at(name.span.clone()).help(help));
    }

    fn objective(
        &mut self,
        name: Option<Located<ObjectiveName>>,
        weights: Option<Located<WeightsTable>>,
    ) -> Option<Objective> {
        let chosen = name.as_ref().map(|name| name.value).unwrap_or_default();
        let wanted = chosen == ObjectiveName::Weights;
        match (weights, wanted) {
            (Some(table), false) => {
                let problem = Diagnostic::error("unused-weights", "`weights` has no use with this objective");
                let help = "write `objective = \"weights\"`";
                self.report.push(problem.at(table.span.clone()).help(help));
                return None;
            }
            (Some(table), true) => {
                if table.weights() == Weights::default() && self.whole {
                    let problem = Diagnostic::error("zero-weights", "all weights are 0");
                    self.report.push(problem.at(table.span.clone()).help("give `cost`, `ttft`, `itl` or `energy`"));
                    return None;
                }
                return Some(Objective::Weights(table.weights()));
            }
            (None, true) => {
                // Weights that were cut out because they were wrong have been told.
                if let Some(name) = name.filter(|_| self.whole) {
                    let problem = Diagnostic::error("missing-weights", "objective `weights` needs the key `weights`");
                    let help = "for example `weights = { cost = 1, ttft = 2 }`";
                    self.report.push(problem.at(name.span).help(help));
                }
                return None;
            }
            (None, false) => {}
        }
        Some(match chosen {
            ObjectiveName::Fastest => Objective::Fastest,
            ObjectiveName::Cheapest => Objective::Cheapest,
            ObjectiveName::Greenest => Objective::Greenest,
            ObjectiveName::CheapestThatMeetsSlo | ObjectiveName::Weights => Objective::CheapestThatMeetsSlo,
        })
    }
}
