//! What came against what was expected.

use super::Broken;
use super::choice::Choice;
use super::shape::ExpectTable;
use crate::explain::{AttemptReason, CandidateReason, Explanation};
use crate::fleet::Fleet;
use crate::language::Located;

/// Every expectation that does not hold, with what came instead and why.
pub(super) fn broken(expect: &ExpectTable, came: &Explanation, fleet: Fleet<'_>) -> Vec<Broken> {
    let mut all = Vec::new();
    names(expect, came, &mut all);
    plan(expect, came, &mut all);
    if let Some(wanted) = &expect.meets_slo {
        promise(wanted, came, &mut all);
    }
    rejected(expect, came, fleet, &mut all);
    all
}

/// What one key asks for and what came.
struct Named<'a> {
    what: &'static str,
    came: Option<&'a str>,
    wanted: Option<&'a Located<Choice>>,
    unwanted: Option<&'a Located<Choice>>,
    why: Vec<String>,
}

fn names(expect: &ExpectTable, came: &Explanation, all: &mut Vec<Broken>) {
    let first = came.first();
    let class = came.class.as_ref();
    let rule = class.map(|class| class.rule.as_ref().map_or(class.because.as_str(), |rule| &rule.name));
    let route = came.route.as_ref().map(|route| route.tested.name.as_str());
    let refusal = came.refusal.as_ref().map(|refusal| refusal.code.as_str());
    let not = expect.not.clone().unwrap_or_default();
    let row = |what, came, wanted, unwanted, why| Named { what, came, wanted, unwanted, why };
    let place = |wanted: &Option<Located<Choice>>| match wanted {
        Some(wanted) => place_why(wanted, came),
        None => vec![came.verdict.clone()],
    };
    let names = [
        row(
            "class",
            class.map(|class| class.name.as_str()),
            expect.class.as_ref(),
            not.class.as_ref(),
            class_why(came),
        ),
        row("rule", rule, expect.rule.as_ref(), not.rule.as_ref(), class_why(came)),
        row("route", route, expect.route.as_ref(), not.route.as_ref(), route_why(came)),
        row("pool", first.map(pool), expect.pool.as_ref(), not.pool.as_ref(), place(&expect.pool)),
        row("endpoint", first.map(endpoint), expect.endpoint.as_ref(), not.endpoint.as_ref(), place(&expect.endpoint)),
        row("refusal", refusal, expect.refusal.as_ref(), not.refusal.as_ref(), vec![came.verdict.clone()]),
    ];
    for Named { what, came: name, wanted, unwanted, why } in names {
        if let Some(wanted) = wanted.filter(|wanted| !name.is_some_and(|name| wanted.holds(name))) {
            let message = format!("expected {what} {}", wanted.value);
            let came = instead(what, name, refusal);
            all.push(Broken { span: wanted.span.clone(), message, came, why: why.clone() });
        }
        if let Some((unwanted, name)) = unwanted.zip(name).filter(|(unwanted, name)| unwanted.holds(name)) {
            let message = format!("{what} `{name}` must not come");
            all.push(Broken { span: unwanted.span.clone(), message, came: "but it did".to_owned(), why });
        }
    }
}

fn pool(attempt: &AttemptReason) -> &str {
    &attempt.pool
}

fn endpoint(attempt: &AttemptReason) -> &str {
    &attempt.endpoint
}

fn instead(what: &str, came: Option<&str>, refusal: Option<&str>) -> String {
    match (came, refusal) {
        (Some(name), _) => format!("got `{name}`"),
        (None, Some(code)) => format!("was refused with `{code}`"),
        (None, None) if what == "refusal" => "was not refused".to_owned(),
        (None, None) => "got none".to_owned(),
    }
}

/// What happened, and why a pool or endpoint that was wanted did not come first.
fn place_why(wanted: &Choice, came: &Explanation) -> Vec<String> {
    let meant = |candidate: &&CandidateReason| wanted.holds(&candidate.pool) || wanted.holds(&candidate.endpoint);
    // The one that came nearest tells most.
    let nearest = came.candidates.iter().filter(meant).min_by(|a, b| {
        let scores = || a.score.unwrap_or(f64::MAX).total_cmp(&b.score.unwrap_or(f64::MAX));
        a.rejection.is_some().cmp(&b.rejection.is_some()).then_with(scores)
    });
    let other = nearest.map(|candidate| match &candidate.rejection {
        Some(rejection) => format!("{} is rejected: {}", candidate.endpoint, rejection.message),
        None => {
            let usd = candidate.estimate.unwrap_or_default().usd;
            let word = if candidate.meets_slo == Some(true) { "likely" } else { "not likely" };
            let strain = candidate.strain.unwrap_or_default();
            format!("{} is {word} to keep the promise (strain {strain:.2}) for ${usd:.6}", candidate.endpoint)
        }
    });
    [Some(came.verdict.clone()), other].into_iter().flatten().collect()
}

fn class_why(came: &Explanation) -> Vec<String> {
    let Some(class) = &came.class else { return vec![came.verdict.clone()] };
    let by = match &class.rule {
        Some(rule) => match &rule.when {
            Some(when) => format!("by rule `{}`: {when}", rule.name),
            None => format!("by rule `{}`, which always applies", rule.name),
        },
        None if class.because == "declared" => "because the caller declares it".to_owned(),
        None => format!("by `{}`, because no rule applies", class.because),
    };
    vec![format!("class `{}` {by}", class.name)]
}

fn route_why(came: &Explanation) -> Vec<String> {
    let Some(route) = &came.route else { return vec![came.verdict.clone()] };
    vec![match &route.tested.when {
        Some(when) => format!("`{}` is the first that matches: {when}", route.tested.name),
        None => format!("`{}` always matches, and none before it does", route.tested.name),
    }]
}

fn plan(expect: &ExpectTable, came: &Explanation, all: &mut Vec<Broken>) {
    let attempts: Vec<_> = came.plan.iter().flat_map(|plan| &plan.attempts).collect();
    for (place, wanted) in expect.plan.iter().flatten().enumerate() {
        let attempt = attempts.get(place);
        if attempt.is_some_and(|attempt| attempt.pool == wanted.value || attempt.endpoint == wanted.value) {
            continue;
        }
        let instead =
            attempt.map_or_else(|| "the plan ends before".to_owned(), |attempt| format!("got `{}`", attempt.endpoint));
        let message = format!("expected attempt {} on `{}`", place + 1, wanted.value);
        let why = place_why(&Choice(vec![wanted.value.clone()]), came);
        all.push(Broken { span: wanted.span.clone(), message, came: instead, why });
        break; // those behind it are out of step as well
    }
    for unwanted in expect.avoids.iter().flatten() {
        let mut asked = attempts.iter().enumerate();
        let hit = asked.find(|(_, attempt)| attempt.pool == unwanted.value || attempt.endpoint == unwanted.value);
        if let Some((place, attempt)) = hit {
            let message = format!("`{}` must not be asked", unwanted.value);
            let came_instead = format!("attempt {} is on `{}`", place + 1, attempt.endpoint);
            let why = place_why(&Choice(vec![attempt.endpoint.clone()]), came);
            all.push(Broken { span: unwanted.span.clone(), message, came: came_instead, why });
        }
    }
}

fn promise(wanted: &Located<bool>, came: &Explanation, all: &mut Vec<Broken>) {
    let chosen = came.first().and_then(|first| came.candidate(&first.endpoint));
    let meets = chosen.and_then(|candidate| candidate.meets_slo);
    if meets != Some(wanted.value) {
        let word = if wanted.value { "likely" } else { "not likely" };
        let message = format!("expected that the promise is {word} to be kept");
        let strain = chosen.and_then(|candidate| candidate.strain);
        let instead = strain.map_or_else(|| "was refused".to_owned(), |strain| format!("strain {strain:.2}"));
        all.push(Broken { span: wanted.span.clone(), message, came: instead, why: vec![came.verdict.clone()] });
    }
}

fn rejected(expect: &ExpectTable, came: &Explanation, fleet: Fleet<'_>, all: &mut Vec<Broken>) {
    for (place, wanted) in &expect.rejected {
        let is_pool = fleet.pools.iter().any(|pool| pool.name == place.value);
        let named =
            |one: &&CandidateReason| if is_pool { one.pool == place.value } else { one.endpoint == place.value };
        let code = |one: &CandidateReason| one.rejection.as_ref().map(|rejection| rejection.code.clone());
        let mut members = came.candidates.iter().filter(named).peekable();
        let (name, instead) = if members.peek().is_none() {
            (place.value.clone(), "nothing was decided".to_owned())
        } else {
            let Some(other) = members.find(|one| !code(one).is_some_and(|code| wanted.holds(&code))) else { continue };
            let instead = code(other).map_or_else(|| "was not rejected".to_owned(), |code| format!("got `{code}`"));
            (other.endpoint.clone(), instead)
        };
        let message = format!("expected `{name}` rejected for {}", wanted.value);
        let why = place_why(&Choice(vec![name]), came);
        all.push(Broken { span: wanted.span.clone(), message, came: instead, why });
    }
}
