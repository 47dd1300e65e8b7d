//! One frame of decisions, decided again.

use pointsman_policies::digest::digest;
use pointsman_policies::fleet::EndpointState;

use super::experience::{Alike, Experience};
use super::ground::{Chosen, Ground, Grounds, Made, REFUSED, Side};
use super::tally::{Difference, Differing, Kind, Moved, Tally};
use crate::decision_log::entry::is_credential;
use crate::decision_log::reader::Packed;
use crate::decision_log::{Decision, Set};

/// Room that is used again for every decision.
#[derive(Default)]
struct Room {
    states: Vec<EndpointState>,
    own: Vec<EndpointState>,
}

/// Decides a frame again.
pub(super) fn again(packed: &Packed, grounds: &Grounds, limit: usize) -> Tally {
    let mut tally = Tally::default();
    let mut room = Room::default();
    let read = packed.decisions(|decision| {
        tally.decisions += 1;
        let (first, last) = tally.span_ms.unwrap_or((decision.unix_ms, decision.unix_ms));
        tally.span_ms = Some((first.min(decision.unix_ms), last.max(decision.unix_ms)));
        match grounds.get(&decision.set) {
            Some(ground) => once_more(&decision, ground, &mut room, &mut tally, limit),
            None => *tally.undecided.entry("their configuration set is in a damaged part".to_owned()).or_default() += 1,
        }
    });
    match read {
        Ok(()) => tally,
        // What was understood of it before may be nonsense as well.
        Err(damage) => Tally { damage: vec![damage], ..Tally::default() },
    }
}

fn once_more(decision: &Decision, ground: &Ground, room: &mut Room, tally: &mut Tally, limit: usize) {
    let Room { states, own } = room;
    decision.states(&ground.set, states);
    let facts = decision.facts.facts();
    match tally.versions.get_mut(&ground.set.version) {
        Some(count) => *count += 1,
        None => drop(tally.versions.insert(ground.set.version.clone(), 1)),
    }
    let in_force = match &ground.in_force {
        Ok(side) => Some((side, side.decide(&facts, (states, decision), decision.draw, own))),
        Err(reason) => {
            *tally.undecided.entry(reason.clone()).or_default() += 1;
            None
        }
    };
    if let Some((side, made)) = &in_force {
        if made.class.is_some_and(|class| {
            digest(class, made.decision.route, &made.decision.candidates, made.decision.plan.as_ref())
                == decision.decided.digest
        }) {
            tally.same += 1;
        } else {
            tally.differing += 1;
            if tally.examples.len() < limit {
                tally.examples.push(differing(decision, &ground.set, side, made));
            }
        }
    }
    let Some((against, candidate)) = &ground.compared else { return };
    let made = candidate.decide(&facts, (states, decision), decision.draw, own);
    let own = against.as_ref().map(|side| (side, side.decide(&facts, (states, decision), decision.draw, own)));
    let Some((side, base)) = own.as_ref().or(in_force.as_ref()) else { return };
    let first = decision.decided.first.filter(|first| decision.outcome.answered == Some(*first));
    let answered = first.and_then(|first| Some(in_force.as_ref()?.0.endpoint(first as usize)));
    compare((decision, answered), (side, base), (candidate, &made), &mut tally.difference);
}

/// `answered` is the endpoint that answered, where it was the first choice.
fn compare(
    (decision, answered): (&Decision, Option<&str>),
    (side, base): (&Side, &Made),
    (candidate, made): (&Side, &Made),
    difference: &mut Difference,
) {
    difference.decisions += 1;
    let name = side.class(base).unwrap_or("no such class");
    let (from, to) = (side.chosen(base), candidate.chosen(made));
    let place = |chosen: Option<Chosen<'_>>| chosen.map_or(REFUSED, |chosen| &chosen.pool.name).to_owned();
    let (from_place, to_place) = (place(from), place(to));
    let moved = from_place != to_place;
    let class = match difference.classes.get_mut(name) {
        Some(class) => class,
        None => difference.classes.entry(name.to_owned()).or_default(),
    };
    class.requests += 1;
    class.moved += u64::from(moved);
    class.moved_within += u64::from(!moved && from.map(|from| from.endpoint) != to.map(|to| to.endpoint));
    class.incumbent.count(from.map(|from| from.scored));
    class.candidate.count(to.map(|to| to.scored));
    class.observed.count(&decision.outcome);
    experience((decision, answered), (from, to), &mut difference.experience);
    if candidate.class(made) != Some(name) {
        let to = candidate.class(made).map(str::to_owned);
        *difference.reclassified.entry((name.to_owned(), to)).or_default() += 1;
    }
    if moved {
        let facts = &decision.facts;
        let kind = Kind {
            class: name.to_owned(),
            model: facts.model.clone(),
            stream: facts.stream,
            input_log2: facts.input_tokens.max(1).ilog2(),
            tools: facts.tools > 0,
            from: from_place.clone(),
            to: to_place.clone(),
        };
        let first = || Moved { count: 1, example: decision.request_id.to_string(), file: 0 };
        difference.moved(kind, first, 1);
    }
    *difference.flows.entry((from_place, to_place)).or_default() += 1;
}

/// Notes what both choices look like, and what came of the incumbent's where the request went there.
fn experience(
    (decision, answered): (&Decision, Option<&str>),
    (from, to): (Option<Chosen<'_>>, Option<Chosen<'_>>),
    experience: &mut Experience,
) {
    let alike = |chosen: Chosen<'_>| Alike::of(chosen.pool.kind, decision.facts.stream, chosen.scored.strain);
    if let Some(from) = from {
        let outcomes = experience.at(alike(from));
        outcomes.incumbent += 1;
        if let Some(kept) = decision.outcome.attained.filter(|_| answered == Some(from.endpoint)) {
            outcomes.judged += 1;
            outcomes.kept += u64::from(kept);
        }
    }
    if let Some(to) = to {
        experience.at(alike(to)).candidate += 1;
    }
}

fn differing(decision: &Decision, set: &Set, side: &Side, made: &Made) -> Differing {
    Differing {
        id: decision.request_id.to_string(),
        unix_ms: decision.unix_ms,
        version: set.version.clone(),
        what: what_differs(decision, side, made),
        file: 0,
    }
}

/// The first thing that differs, in the order in which it is decided.
fn what_differs(decision: &Decision, side: &Side, made: &Made) -> String {
    let was = &decision.decided;
    let class = |index: usize| side.policy().classes.get(index).map_or("none", |class| class.name.as_str());
    let route = |index: usize| side.policy().routes.get(index).map_or("none", |route| route.name.as_str());
    let place = |index: Option<usize>| index.map_or(REFUSED, |index| side.endpoint(index));
    let first = made.decision.plan.as_ref().and_then(|plan| plan.attempts.first()).map(|first| first.endpoint);
    let (was_class, was_route) = (was.class as usize, was.route as usize);
    let mut what = if made.class.map(|class| class.0) != Some(was_class) {
        let now = made.class.map_or("none", |now| class(now.0));
        format!("its class was `{}` and comes out as `{now}`", class(was_class))
    } else if made.decision.route != was_route {
        format!("its route was `{}` and comes out as `{}`", route(was_route), route(made.decision.route))
    } else if first != was.first.map(|first| first as usize) {
        format!(
            "its first choice was {} and comes out as {}",
            place(was.first.map(|first| first as usize)),
            place(first)
        )
    } else {
        let digest = made.class.map_or(0, |class| {
            digest(class, made.decision.route, &made.decision.candidates, made.decision.plan.as_ref())
        });
        format!("same choice, but other numbers: digest {:016x} recorded, {digest:016x} now", was.digest)
    };
    if let Some((name, _)) = decision.facts.headers.iter().find(|(name, _)| is_credential(name)) {
        what.push_str(&format!("; the policy reads `{name}`, whose values are never recorded"));
    }
    what
}
