//! What a policy is to do, told by examples beside it, and whether it does: `NAME.scenarios.toml` describes states of the
//! fleet once, and requests with what is expected of each. Text and policy in, results out.
//!
//! A decision may draw lots among near-ties, so every expectation must hold for each of `DRAWS` fixed draws.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::explain::{Explanation, Given};
use crate::facts::{Facts, OwnedFacts};
use crate::fleet::{EndpointState, Fleet};
use crate::language::{Diagnostic, Report, Source, listed, nearest, read};
use crate::policy::Policy;
use xxhash_rust::xxh3::xxh3_64;

/// The file as it is written.
mod shape;
/// One text or several.
mod choice;
/// A request as it is described.
mod request;
/// When a request comes.
mod moment;
/// A state of the fleet as it is described.
mod fleet;
/// What came against what was expected.
mod expect;
/// Names that there are.
mod names;

pub use choice::Choice;
pub use moment::unix_seconds;
pub use shape::{
    AvailabilityName, ExpectTable, MAX_FLEETS, MAX_SCENARIOS, NotTable, RequestTable, ScenarioFile, ScenarioTable,
    StateTable,
};

/// Draws for which every expectation must hold: enough that two of three near-ties hardly stay hidden, and always the
/// same, so that a scenario never holds today and fails tomorrow.
pub const DRAWS: u64 = 32;

/// A file that has been run.
#[derive(Debug)]
pub struct Ran {
    /// Everything there is to say about it.
    pub report: Report,
    /// Scenarios in it.
    pub scenarios: usize,
    /// Of those, how many hold.
    pub held: usize,
}

/// A request against a state of the fleet, as a scenario describes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// The request.
    pub facts: OwnedFacts,
    /// The endpoints.
    pub endpoints: Vec<EndpointState>,
}

/// Reads a file; what is wrong with its shape goes to the report.
pub fn parse(source: Source) -> (Option<ScenarioFile>, Report) {
    let mut report = Report::new(source);
    let file: Option<ScenarioFile> = read(&mut report);
    (file, report)
}

/// Runs a file. `fleet` is the portfolio with its endpoints as they are where the file says nothing of them.
pub fn run(file: &ScenarioFile, mut report: Report, policy: &Policy, fleet: Fleet<'_>) -> Ran {
    let scenarios = file.scenario.len();
    if file.scenario.is_empty() && !report.has_errors() {
        let none = Diagnostic::warning("no-scenarios", "the file has no scenario, so it shows nothing");
        report.push(none.help("add a `[[scenario]]` with `request` and `expect`"));
    }
    fleet::check(file, fleet, &mut report);
    names::check_own(file, &mut report);
    let held = file.scenario.iter().filter(|scenario| holds(file, scenario, &mut report, policy, fleet)).count();
    Ran { report, scenarios, held }
}

/// The situation of one scenario. `None` where it is described wrongly, which [`run`] reports.
pub fn situation(
    file: &ScenarioFile,
    scenario: &ScenarioTable,
    policy: &Policy,
    fleet: Fleet<'_>,
) -> Option<Situation> {
    let mut unheard = Report::new(Source::new("", ""));
    situation_of(file, scenario, policy, fleet, &mut unheard).filter(|_| !unheard.has_errors())
}

/// The endpoints of a state of the fleet that a file describes; the only one where no name is given.
pub fn described(file: &ScenarioFile, name: Option<&str>, fleet: Fleet<'_>) -> Result<Vec<EndpointState>, String> {
    let known: Vec<&str> = file.fleet.keys().map(|name| name.as_str()).collect();
    let found = match name {
        Some(name) => file.fleet.iter().find(|(known, _)| known.as_str() == name),
        None => file.fleet.iter().next().filter(|_| known.len() == 1),
    };
    if let Some((_, states)) = found {
        return Ok(fleet::apply(states, fleet, &mut Report::new(Source::new("", ""))));
    }
    let listed = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(match name {
        Some(name) => match nearest(name, known.iter().copied()) {
            Some(guess) => format!("there is no fleet `{name}`; did you mean `{guess}`?"),
            None => format!("there is no fleet `{name}`; there are: {listed}"),
        },
        None => format!("the file describes several fleets or none, so name one; there are: {listed}"),
    })
}

/// The draws.
pub fn draws() -> impl Iterator<Item = u64> {
    (0..DRAWS).map(|draw| xxh3_64(&draw.to_le_bytes()))
}

fn situation_of(
    file: &ScenarioFile,
    scenario: &ScenarioTable,
    policy: &Policy,
    fleet: Fleet<'_>,
    report: &mut Report,
) -> Option<Situation> {
    let facts = request::facts(&file.request, &scenario.request, policy, report);
    let endpoints = match &scenario.fleet {
        None => Some(fleet.endpoints.to_vec()),
        Some(name) => match file.fleet.get(name) {
            // What is wrong with it is told once, by its own check.
            Some(states) => Some(fleet::apply(states, fleet, &mut Report::new(Source::new("", "")))),
            None => {
                let known: Vec<&str> = file.fleet.keys().map(|name| name.as_str()).collect();
                names::unknown("fleet", name, &known, "the file describes as `[fleet.NAME]`", report);
                None
            }
        },
    };
    let mut facts = facts?;
    if facts.model.is_empty() {
        facts.model = only_model(scenario, fleet, report)?;
    }
    Some(Situation { facts, endpoints: endpoints? })
}

/// The model of a request that names none.
fn only_model(scenario: &ScenarioTable, fleet: Fleet<'_>, report: &mut Report) -> Option<String> {
    let models: BTreeSet<&str> =
        fleet.pools.iter().flat_map(|pool| pool.models.iter().map(|model| model.name.as_str())).collect();
    let models: Vec<&str> = models.into_iter().collect();
    if let [only] = models.as_slice() {
        return Some((*only).to_owned());
    }
    let problem = Diagnostic::error("no-model", "the request names no model, and the portfolio has several");
    let help = format!("add `model` to its `request`, or to `[request]` for all: {}", listed(&models, "or"));
    report.push(problem.at(scenario.name.span.clone()).help(help));
    None
}

/// Whether a scenario holds for every draw; reports the first draw for which it does not.
fn holds(
    file: &ScenarioFile,
    scenario: &ScenarioTable,
    report: &mut Report,
    policy: &Policy,
    fleet: Fleet<'_>,
) -> bool {
    let told = report.len();
    names::check(&scenario.expect, policy, fleet, report);
    let Some(situation) = situation_of(file, scenario, policy, fleet, report) else { return false };
    if report.len() > told {
        return false;
    }
    let fleet = Fleet { endpoints: &situation.endpoints, ..fleet };
    for draw in draws() {
        let facts: Facts<'_> = situation.facts.facts();
        let explanation = Explanation::of(&Given { policy, facts: &facts, fleet, draw });
        let broken = expect::broken(&scenario.expect, &explanation, fleet);
        if broken.is_empty() {
            continue;
        }
        let command = format!("pointsman explain --scenarios {} --name", report.source().name);
        for Broken { span, message, came, why } in broken {
            let lines = why.into_iter().chain([format!("see all of it: {command} {:?}", scenario.name.value)]);
            let problem = Diagnostic::error("scenario-fails", format!("`{}`: {message}", scenario.name.value));
            report.push(problem.at(span).label(came).help(lines.collect::<Vec<_>>().join("\n")));
        }
        return false;
    }
    true
}

/// An expectation that does not hold.
struct Broken {
    /// Where it stands.
    span: Range<usize>,
    /// What was expected.
    message: String,
    /// What came instead.
    came: String,
    /// Why that came, and why not what was expected.
    why: Vec<String>,
}
