//! Pools that no route leads to; fallbacks, exclusions and pins that make no difference. Each is looked at once for each
//! route and pool.

use std::ops::Range;

use super::super::diagnostic::{Diagnostic, Report};
use super::super::expression::{Case, Constraint};
use super::super::schema::listed;
use super::{ConditionNote, Notes, RouteNote};
use crate::fleet::PoolFacts;
use crate::policy::{Policy, PoolSelector, Route};

/// Routes times pools looked at; of what stands beyond, nothing is said.
const MAX_PAIRS: usize = 200_000;

/// Whether a selector means a pool, for requests yet unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Never,
    Sometimes,
    Always,
}

/// A route with what its selectors say of each pool.
struct Seen<'a> {
    route: &'a Route,
    note: &'a RouteNote,
    /// By tier, then by pool.
    tiers: Vec<Vec<Answer>>,
    /// By pool.
    excluded: Vec<Answer>,
}

impl<'a> Seen<'a> {
    fn of(route: &'a Route, note: &'a RouteNote, pools: &[PoolFacts]) -> Seen<'a> {
        let nothing = PoolSelector::Fixed(Vec::new());
        let tiers = route.tiers.iter().zip(&note.tiers).map(|(tier, note)| answers(tier, note.as_ref(), pools));
        let excluded = answers(route.exclude.as_ref().unwrap_or(&nothing), note.exclude.as_ref(), pools);
        Seen { route, note, tiers: tiers.collect(), excluded }
    }

    fn answer(&self, tier: usize, pool: usize) -> Answer {
        self.tiers.get(tier).and_then(|pools| pools.get(pool)).copied().unwrap_or(Answer::Never)
    }

    fn excludes(&self, pool: usize) -> bool {
        self.excluded.get(pool) == Some(&Answer::Always)
    }

    /// Whether a request may be sent to a pool.
    fn reaches(&self, pool: usize, endpoints: &Range<usize>) -> bool {
        let pinned = self.route.pin.as_ref().is_none_or(|pin| pin.iter().any(|one| endpoints.contains(one)));
        let allowed = (0..self.tiers.len()).any(|tier| self.answer(tier, pool) != Answer::Never);
        pinned && allowed && !self.excludes(pool)
    }
}

/// Warns of what makes no difference.
pub(super) fn lint(report: &mut Report, policy: &Policy, pools: &[PoolFacts], notes: &Notes) {
    let endpoints = endpoints(pools);
    let most = MAX_PAIRS / pools.len().max(1);
    let routes = policy.routes.iter().zip(&notes.routes).take(most);
    let seen: Vec<Seen<'_>> = routes.map(|(route, note)| Seen::of(route, note, pools)).collect();
    for one in &seen {
        if nothing_left(report, one, pools.len()) {
            continue;
        }
        fallbacks(report, one, pools);
        pins(report, one, &endpoints);
        models(report, one, pools, &endpoints);
    }
    // A route that covers the rest was added where the file has none.
    if policy.routes.len() <= seen.len() {
        unreachable(report, &seen, pools, &endpoints);
    }
}

/// The endpoints of each pool, by their places in the fleet.
fn endpoints(pools: &[PoolFacts]) -> Vec<Range<usize>> {
    let mut first = 0;
    let mut next = |count: usize| {
        let range = first..first + count;
        first = range.end;
        range
    };
    pools.iter().map(|pool| next(pool.endpoints.len())).collect()
}

fn answers(selector: &PoolSelector, note: Option<&ConditionNote>, pools: &[PoolFacts]) -> Vec<Answer> {
    let sure = |allowed: bool| if allowed { Answer::Always } else { Answer::Never };
    let answer = |(index, pool): (usize, &PoolFacts)| match (selector, note) {
        (PoolSelector::All, _) => Answer::Always,
        (PoolSelector::Fixed(allowed), _) => sure(allowed.get(index).copied().unwrap_or(false)),
        (PoolSelector::PerRequest(_), Some(note)) if !possible(&note.logic.yes, pool) => Answer::Never,
        (PoolSelector::PerRequest(_), Some(note)) if !possible(&note.logic.no, pool) => Answer::Always,
        (PoolSelector::PerRequest(_), _) => Answer::Sometimes,
    };
    pools.iter().enumerate().map(answer).collect()
}

/// Whether any of the cases can be of a pool.
fn possible(cases: &[Case], pool: &PoolFacts) -> bool {
    let admits = |(subject, constraint): (&str, &Constraint)| match constraint {
        Constraint::Texts(texts) => text(pool, subject).is_none_or(|text| texts.admits(text)),
        _ => true,
    };
    cases.iter().any(|case| case.iter().all(admits))
}

fn text<'p>(pool: &'p PoolFacts, subject: &str) -> Option<&'p str> {
    Some(match subject {
        "pool.name" => &pool.name,
        "pool.site" => &pool.site,
        "pool.vendor" => &pool.vendor,
        "pool.hardware.name" => &pool.hardware,
        "pool.hardware.kind" => pool.kind.as_str(),
        _ => return None,
    })
}

/// A route whose exclusions take away all that its tiers allow.
fn nothing_left(report: &mut Report, seen: &Seen<'_>, pools: usize) -> bool {
    let Some(exclude) = &seen.note.exclude else { return false };
    let allowed = |pool: usize| (0..seen.tiers.len()).any(|tier| seen.answer(tier, pool) != Answer::Never);
    if !(0..pools).all(|pool| !allowed(pool) || seen.excludes(pool)) {
        return false;
    }
    let mut problem = Diagnostic::warning("no-pool-left", "no pool is left to this route: all it allows are excluded");
    problem = problem.at(exclude.span.clone()).help("every request it applies to is refused");
    for tier in seen.note.tiers.iter().flatten() {
        problem = problem.also(tier.span.clone(), "all of these are excluded");
    }
    report.push(problem);
    true
}

/// Fallbacks that add no pool to those before them.
fn fallbacks(report: &mut Report, seen: &Seen<'_>, pools: &[PoolFacts]) {
    for (tier, note) in seen.note.tiers.iter().enumerate().skip(1) {
        let Some(note) = note else { continue };
        let own: Vec<usize> = (0..pools.len()).filter(|pool| seen.answer(tier, *pool) != Answer::Never).collect();
        let before = |pool: usize| (0..tier).find(|before| seen.answer(*before, pool) == Answer::Always);
        let excluded = !own.is_empty() && own.iter().all(|pool| seen.excludes(*pool));
        let useless = own.iter().all(|pool| seen.excludes(*pool) || before(*pool).is_some());
        let implied = (0..tier).find(|before| follows(seen, *before, note));
        if own.is_empty() || !(useless || implied.is_some()) {
            continue;
        }
        let names: Vec<&str> = own.iter().filter_map(|pool| pools.get(*pool)).map(|pool| pool.name.as_str()).collect();
        let (message, cause, label) = if excluded {
            let exclude = seen.note.exclude.as_ref().map(|note| note.span.clone());
            ("this fallback has no pool: all of it is excluded".to_owned(), exclude, "excluded by this")
        } else {
            let tried = if names.len() == 1 { "is" } else { "are" };
            let message = format!("this fallback adds no pool: {} {tried} tried before it", listed(&names, "and"));
            let earlier = implied.or_else(|| own.iter().find_map(|pool| before(*pool)));
            let note = earlier.and_then(|tier| seen.note.tiers.get(tier)).and_then(Option::as_ref);
            let place = note.map_or(seen.note.rule.head.clone(), |note| note.span.clone());
            let label = if note.is_some() { "tried before it" } else { "without `pools`, every pool is tried first" };
            (message, Some(place), label)
        };
        let mut problem = Diagnostic::warning("useless-fallback", message).at(note.span.clone());
        problem = problem.help("fall back to other pools, or take it out");
        if let Some(cause) = cause {
            problem = problem.also(cause, label);
        }
        report.push(problem);
    }
}

/// Whether a tier before surely has every pool that a later one has, for every request.
fn follows(seen: &Seen<'_>, before: usize, later: &ConditionNote) -> bool {
    let earlier = seen.note.tiers.get(before).and_then(Option::as_ref);
    earlier.is_some_and(|earlier| earlier.logic.follows_from(&later.logic))
}

/// Pins to endpoints that the route does not allow.
fn pins(report: &mut Report, seen: &Seen<'_>, endpoints: &[Range<usize>]) {
    for (span, pinned) in &seen.note.pins {
        let of = |pool: &usize| {
            endpoints.get(*pool).is_some_and(|endpoints| pinned.iter().any(|one| endpoints.contains(one)))
        };
        let pools: Vec<usize> = (0..endpoints.len()).filter(of).collect();
        let excluded = pools.iter().all(|pool| seen.excludes(*pool));
        let outside = |pool: &usize| (0..seen.tiers.len()).all(|tier| seen.answer(tier, *pool) == Answer::Never);
        if pools.is_empty() || !(excluded || pools.iter().all(outside)) {
            continue;
        }
        let (message, cause, label) = if excluded {
            ("what is pinned here is excluded", seen.note.exclude.as_ref(), "excluded by this")
        } else {
            let own = seen.note.tiers.first().and_then(Option::as_ref);
            ("what is pinned here is not among the pools of the route", own, "the route allows only these")
        };
        let mut problem = Diagnostic::warning("useless-pin", message).at(span.clone());
        problem = problem.help("no request goes there: allow its pool, or take the name out");
        if let Some(cause) = cause {
            problem = problem.also(cause.span.clone(), label);
        }
        report.push(problem);
    }
}

/// A route for certain models, none of whose pools serves any of them though others do.
fn models(report: &mut Report, seen: &Seen<'_>, pools: &[PoolFacts], endpoints: &[Range<usize>]) {
    let Some(when) = &seen.note.rule.when else { return };
    let mut wanted: Vec<&str> = Vec::new();
    for case in &when.logic.yes {
        let Some(Constraint::Texts(texts)) = case.of("request.model") else { return };
        let Some(models) = texts.listed() else { return };
        wanted.extend(models.iter().map(|model| &**model));
    }
    wanted.sort_unstable();
    wanted.dedup();
    let serves = |pool: &PoolFacts| wanted.iter().any(|model| pool.model(model).is_some());
    let others: Vec<&str> = pools.iter().filter(|pool| serves(pool)).map(|pool| pool.name.as_str()).collect();
    let mut reached = pools.iter().zip(endpoints).enumerate().filter(|(at, (_, own))| seen.reaches(*at, own));
    // That no pool at all serves it is told at its name.
    if others.is_empty() || reached.any(|(_, (pool, _))| serves(pool)) {
        return;
    }
    let message = format!("no pool of this route serves {}", listed(&wanted, "or"));
    let help = format!("it is served by {}", listed(&others, "and"));
    let mut problem = Diagnostic::warning("model-not-served", message).at(when.span.clone()).help(help);
    for tier in seen.note.tiers.iter().flatten() {
        problem = problem.also(tier.span.clone(), "only by these it may be served");
    }
    report.push(problem);
}

/// Pools that no route leads to, and that no route excludes on purpose.
fn unreachable(report: &mut Report, seen: &[Seen<'_>], pools: &[PoolFacts], endpoints: &[Range<usize>]) {
    let Some(last) = seen.last() else { return };
    let lost = |(at, (_, own)): &(usize, (&PoolFacts, &Range<usize>))| {
        !seen.iter().any(|route| route.reaches(*at, own) || route.excludes(*at))
    };
    let lost = pools.iter().zip(endpoints).enumerate().filter(lost);
    let names: Vec<&str> = lost.map(|(_, (pool, _))| pool.name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let noun = if names.len() == 1 { "the pool" } else { "the pools" };
    let (place, label) = match last.note.tiers.as_slice() {
        [Some(only)] => (&only.span, "all that is left may go only to these"),
        _ => (&last.note.rule.head, "all that is left goes by this route"),
    };
    let problem =
        Diagnostic::warning("unreachable-pool", format!("no route leads to {noun} {}", listed(&names, "and")));
    let help = "let a route allow it, or write `exclude` where it is meant so";
    report.push(problem.at(place.clone()).label(label).help(help));
}
