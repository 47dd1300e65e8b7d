//! Routes, with the pools they allow. A selector that reads nothing of the request is decided here, once.

use std::ops::Range;

use super::super::diagnostic::{Diagnostic, nearest};
use super::super::expression::Key;
use super::super::lint::{ConditionNote, RouteNote, RuleNote};
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
        let mut names: Vec<Located<String>> = Vec::new();
        let mut closed = false;
        for (index, table) in tables.into_iter().enumerate() {
            let dead = closed;
            closed |= table.when.is_none();
            let name = self.route_name(&table.value, index, &names);
            let place = table.name.as_ref().map_or(&table.span, |name| &name.span);
            names.push(Located { value: name.clone(), span: place.clone() });
            let Some((route, note)) = self.compile_route(table.value, table.span, name) else { continue };
            self.notes.routes.push(note);
            routes.extend((!dead).then_some(route));
        }
        if routes.last().is_none_or(|last| last.when.is_some()) {
            let taken = names.iter().any(|name| name.value == "default");
            let name = if taken { "otherwise" } else { "default" }.to_owned();
            routes.push(Route::everything(name));
        }
        routes
    }

    fn route_name(&mut self, table: &RouteTable, index: usize, names: &[Located<String>]) -> String {
        let Some(name) = &table.name else { return format!("route-{}", index + 1) };
        self.check_name("route", name);
        if let Some(first) = names.iter().find(|first| first.value == name.value) {
            let problem = Diagnostic::error("duplicate-name", format!("there is another route named `{}`", name.value));
            let problem = problem.at(name.span.clone()).also(first.span.clone(), "this one");
            self.report.push(problem.help("traces tell routes apart by name"));
        }
        name.value.clone()
    }

    fn compile_route(&mut self, table: RouteTable, head: Range<usize>, name: String) -> Option<(Route, RouteNote)> {
        let when = self.when(table.when.as_ref(), Key::RouteWhen);
        let tiers = self.tiers(&table);
        let exclude = optional(table.exclude.as_ref(), |text| self.selector(text, Key::RouteExclude));
        let pins = optional(table.pin.as_ref(), |names| self.pin(names));
        let affinity = optional(table.affinity.as_ref(), |table| self.affinity(table));
        let hedge = optional(table.hedge.as_ref(), |table| self.hedge(table));
        let budgets = self.budgets(table.retry.as_ref(), table.timeouts.as_ref());
        let spill = self.spill(&table);
        let continue_broken_streams = table.continue_broken_streams;
        let objective = self.objective(table.objective, table.weights);
        let (when, when_note) = when?;
        let (tiers, tier_notes) = tiers?.into_iter().unzip();
        let (exclude, exclude_note) = exclude?.unzip();
        let pins = pins?;
        let note = RouteNote {
            rule: RuleNote { head, when: when_note },
            tiers: tier_notes,
            exclude: exclude_note.flatten(),
            pins: pins.clone().unwrap_or_default(),
        };
        let pin = pins.map(endpoints_of);
        let (objective, affinity, hedge) = (objective?, affinity?, hedge?);
        let route = Route {
            name,
            when,
            tiers,
            spill,
            exclude,
            pin,
            objective,
            affinity,
            hedge,
            continue_broken_streams,
            budgets,
        };
        Some((route, note))
    }

    /// The route's own pools and those of its fallbacks.
    fn tiers(&mut self, table: &RouteTable) -> Option<Vec<(PoolSelector, Option<ConditionNote>)>> {
        let own = match &table.pools {
            Some(text) => self.selector(text, Key::RoutePools),
            None => Some((PoolSelector::All, None)),
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

    fn selector(&mut self, text: &Located<String>, key: Key) -> Option<(PoolSelector, Option<ConditionNote>)> {
        let mut checked = self.check(text, key)?;
        let note = |logic| Some(ConditionNote { span: text.span.clone(), logic });
        if checked.reads.request || checked.reads.load {
            self.tell_doubts(&mut checked);
            return Some((PoolSelector::PerRequest(checked.condition), note(checked.logic)));
        }
        // The expression reads neither request nor load, so any will do.
        let facts = Facts::plain(Api::ChatCompletions, "");
        let env = Env { facts: &facts, class: "", pool: None, load: None, utc_offset_s: 0 };
        let allows = |pool| checked.condition.holds(&Env { pool: Some(pool), ..env });
        let flags: Vec<bool> = self.pools.iter().map(allows).collect();
        if flags.contains(&true) || flags.is_empty() {
            self.tell_doubts(&mut checked);
            return Some((PoolSelector::Fixed(flags), note(checked.logic)));
        }
        let names: Vec<&str> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
        let help = format!("the portfolio has {}", listed(&names, "and"));
        if key == Key::RouteExclude {
            let problem = Diagnostic::warning("no-pool", "no pool is excluded by this").at(text.span.clone());
            self.report.push(problem.help(help));
            return Some((PoolSelector::Fixed(flags), note(checked.logic)));
        }
        self.report.push(Diagnostic::error("no-pool", "no pool is allowed").at(text.span.clone()).help(help));
        None
    }

    /// Each name that is pinned, with the places in the fleet view of the endpoints it means.
    fn pin(&mut self, names: &[Located<String>]) -> Option<Vec<(Range<usize>, Vec<usize>)>> {
        let mut pins = Vec::new();
        let mut sound = true;
        for name in names {
            let mut pinned = Vec::new();
            let mut first = 0;
            let mut found = self.pools.is_empty(); // there is nothing to check against
            for pool in self.pools {
                let whole = pool.name == name.value;
                let matching =
                    pool.endpoints.iter().enumerate().filter(|(_, endpoint)| whole || **endpoint == name.value);
                pinned.extend(matching.map(|(at, _)| first + at));
                found |= whole || !pinned.is_empty();
                first += pool.endpoints.len();
            }
            if !found {
                sound = false;
                self.unknown_endpoint(name);
            }
            pins.push((name.span.clone(), pinned));
        }
        sound.then_some(pins)
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

/// What a key yields, where it is there; `None` where it is there and wrong.
fn optional<T, U>(key: Option<T>, compile: impl FnOnce(T) -> Option<U>) -> Option<Option<U>> {
    match key {
        Some(key) => compile(key).map(Some),
        None => Some(None),
    }
}

/// The endpoints that any of the names mean, in order.
fn endpoints_of(pins: Vec<(Range<usize>, Vec<usize>)>) -> Vec<usize> {
    let mut pinned: Vec<usize> = pins.into_iter().flat_map(|(_, endpoints)| endpoints).collect();
    pinned.sort_unstable();
    pinned.dedup();
    pinned
}
