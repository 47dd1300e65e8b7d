//! Routes, with the pools they allow. A selector that reads nothing of the request is decided here, once.

use super::super::diagnostic::Diagnostic;
use super::super::expression::Key;
use super::super::located::Located;
use super::super::schema::listed;
use super::super::shape::{ObjectiveName, RouteTable, WeightsTable};
use super::Compiler;
use crate::facts::{Api, Facts};
use crate::policy::{Env, Objective, PoolSelector, Route, Weights};

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
            routes.push(Route {
                name,
                when: None,
                pools: PoolSelector::All,
                objective: Objective::CheapestThatMeetsSlo,
            });
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
        let pools = match &table.pools {
            Some(text) => self.selector(text),
            None => Some(PoolSelector::All),
        };
        let objective = self.objective(table.objective, table.weights);
        Some(Route { name, when: when?, pools: pools?, objective: objective? })
    }

    fn selector(&mut self, text: &Located<String>) -> Option<PoolSelector> {
        let checked = self.check(text, Key::RoutePools)?;
        if checked.reads_request {
            return Some(PoolSelector::PerRequest(checked.condition));
        }
        // The expression reads no request, so any will do.
        let facts = Facts::plain(Api::ChatCompletions, "");
        let allows = |pool| checked.condition.holds(&Env { facts: &facts, class: "", pool: Some(pool) });
        let flags: Vec<bool> = self.pools.iter().map(allows).collect();
        if flags.contains(&true) || flags.is_empty() {
            return Some(PoolSelector::Fixed(flags));
        }
        let names: Vec<&str> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
        let problem = Diagnostic::error("no-pool", "no pool is allowed").at(text.span.clone());
        self.report.push(problem.help(format!("the portfolio has {}", listed(&names, "and"))));
        None
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
