//! Policy, machines and their state from files; the request from flags or from a scenario.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use pointsman_backends::portfolio::{self, Portfolio, Secrets};
use pointsman_policies::explain::{Explanation, Given};
use pointsman_policies::facts::OwnedFacts;
use pointsman_policies::fleet::{EndpointState, Fleet};
use pointsman_policies::language::{Report, Source, compile, nearest};
use pointsman_policies::policy::Policy;
use pointsman_policies::scenario::{self, ScenarioFile, Situation};

use super::Arguments;
use super::past::Past;
use crate::commands::check::scenarios::policy_of;
use crate::config::set::{self, folder_of};
use crate::config::source::read_source;

/// What is explained, and whose state of the machines it is.
type Asked = (OwnedFacts, Vec<EndpointState>, String);

/// Explains by files; `None` after telling what is wrong with them.
pub(super) fn explain(arguments: &Arguments) -> anyhow::Result<Option<Explanation>> {
    let mut reports = Vec::new();
    let scenarios = arguments
        .scenarios
        .as_ref()
        .map(|file| (file, read(file, &mut reports).and_then(|source| parse(source, &mut reports))));
    let ground = match &scenarios {
        Some((_, None)) => None,
        Some((file, Some(scenarios))) => ground(arguments, Some((file, scenarios)), &mut reports),
        None => ground(arguments, None, &mut reports),
    };
    anstream::eprint!(
        "{}",
        set::render(&reports.iter().filter(|one| one.has_errors()).cloned().collect::<Vec<_>>(), true)
    );
    let Some((policy, portfolio, machines)) = ground else { return Ok(None) };
    let idle = portfolio.idle();
    // What a scenario describes is the same whatever was learned since.
    let past =
        if scenarios.is_some() { Past::default() } else { Past::of(&arguments.config, &machines, &policy, &portfolio) };
    let fleet = Fleet { learned: &past.learned, ..Fleet::new(&portfolio.facts, &idle) };
    let (facts, endpoints, whose) = match (&scenarios, arguments.name.as_deref()) {
        (Some((file, Some(scenarios))), Some(name)) => situation(file, scenarios, name, &policy, fleet)?,
        _ => asked(arguments, &policy, fleet, &past)?,
    };
    let fleet = Fleet { endpoints: &endpoints, ..fleet };
    let facts = facts.facts();
    let given = Given { policy: &policy, facts: &facts, fleet, draw: arguments.draw.unwrap_or(0) };
    Ok(Some(Explanation { fleet: whose, ..Explanation::of(&given) }))
}

/// The policy and the machines, and the file of these.
fn ground(
    arguments: &Arguments,
    scenarios: Option<(&PathBuf, &ScenarioFile)>,
    reports: &mut Vec<Report>,
) -> Option<(Policy, Portfolio, PathBuf)> {
    let beside = |file: &Path| Some(folder_of(file).join("portfolio.toml")).filter(|path| path.exists());
    let policy_file = arguments.policy.clone().or_else(|| scenarios.map(|(file, _)| policy_of(file)));
    let own = scenarios
        .and_then(|(file, scenarios)| scenarios.portfolio.as_ref().map(|name| folder_of(file).join(&name.value)));
    let portfolio_file = arguments.portfolio.clone().or(own).or_else(|| beside(policy_file.as_deref()?));
    let (policy_file, portfolio_file) = match (policy_file, portfolio_file) {
        (Some(policy), Some(portfolio)) => (policy, portfolio),
        (policy, portfolio) => {
            let loaded = set::load(&arguments.config, Secrets::Optional);
            let Some(texts) = loaded.texts else {
                reports.extend(loaded.reports);
                return None;
            };
            (policy.unwrap_or(texts.policy.path), portfolio.unwrap_or(texts.portfolio.path))
        }
    };
    let (portfolio, report) =
        portfolio::load(read(&portfolio_file, reports)?, folder_of(&portfolio_file), Secrets::Optional);
    reports.push(report);
    let portfolio = portfolio?;
    let (policy, report) = compile(read(&policy_file, reports)?, &portfolio.facts);
    reports.push(report);
    Some((policy?, portfolio, portfolio_file))
}

/// A request from flags, on machines that are described, or idle.
fn asked(arguments: &Arguments, policy: &Policy, fleet: Fleet<'_>, past: &Past) -> anyhow::Result<Asked> {
    let mut facts = arguments.request.facts(policy.utc_offset_s, &past.learning)?;
    if past.is_known() {
        facts.output_tokens = past.learning.answer_tokens(policy, &facts.facts());
    }
    let Some(fleet_argument) = &arguments.fleet else {
        let whose = format!("idle, {past}; describe another with --fleet, or ask a running gateway with --live");
        return Ok((facts, fleet.endpoints.to_vec(), whose));
    };
    let (file, name) = match fleet_argument.rsplit_once(':') {
        Some((file, name)) if !Path::new(fleet_argument).exists() => (file, Some(name)),
        _ => (fleet_argument.as_str(), None),
    };
    let mut reports = Vec::new();
    let described = read(Path::new(file), &mut reports).and_then(|source| parse(source, &mut reports));
    anstream::eprint!("{}", set::render(&reports, true));
    let Some(described) = described.filter(|_| !reports.iter().any(Report::has_errors)) else {
        bail!("the fleet `{file}` cannot be used");
    };
    let endpoints = scenario::described(&described, name, fleet).map_err(|problem| anyhow!("--fleet: {problem}"))?;
    Ok((facts, endpoints, format!("as described in {fleet_argument}, {past}")))
}

/// The request and the machines of a scenario.
fn situation(
    file: &Path,
    scenarios: &ScenarioFile,
    name: &str,
    policy: &Policy,
    fleet: Fleet<'_>,
) -> anyhow::Result<Asked> {
    let names = || scenarios.scenario.iter().map(|scenario| scenario.name.as_str());
    let Some(found) = scenarios.scenario.iter().find(|scenario| scenario.name.value == name) else {
        let help = match nearest(name, names()) {
            Some(guess) => format!("did you mean `{guess}`?"),
            None => format!("there are:\n          {}", names().collect::<Vec<_>>().join("\n          ")),
        };
        bail!("`{}` has no scenario `{name}`\n  help: {help}", file.display());
    };
    let Some(Situation { facts, endpoints }) = scenario::situation(scenarios, found, policy, fleet) else {
        bail!("the scenario `{name}` has errors\n  help: see them with `pointsman check {}`", file.display());
    };
    let fleet =
        found.fleet.as_ref().map_or_else(|| "all idle and ready".to_owned(), |name| format!("`{}`", name.value));
    Ok((facts, endpoints, format!("{fleet}, as {} describes it", file.display())))
}

fn read(path: &Path, reports: &mut Vec<Report>) -> Option<Source> {
    read_source(path).map_err(|report| reports.push(report)).ok()
}

fn parse(source: Source, reports: &mut Vec<Report>) -> Option<ScenarioFile> {
    let (file, report) = scenario::parse(source);
    reports.push(report);
    file
}
