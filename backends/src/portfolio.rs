//! The portfolio file: everything the gateway may send work to, read into checked values.

/// Whom to trust and what to show.
mod certificates;
/// Machines that are asked whether they are well.
mod health;
/// Engines that tell of their load.
mod metrics;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use http::uri::PathAndQuery;
use pointsman_policies::facts::Api;
use pointsman_policies::fleet::{Availability, EndpointState, PoolFacts, Window};
use pointsman_policies::language::{Diagnostic, Located, Report, Source, nearest, read};
use pointsman_policies::units::Micros;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::accounts::Commitment;
use crate::connect::Version;
use crate::dialects::{self, DIALECTS, Dialect};
use crate::endpoint::{Address, EndpointId};
use crate::hardware;
use crate::health::probe::Probe;
use crate::lease::{Limiter, RateLimits};
use crate::pool::{CommitmentShape, HttpVersion, LimitsShape, ModelShape, PoolShape};
use crate::site::SiteShape;
use crate::tls;
use crate::window;
pub use metrics::Metrics;

/// Other portfolios made of one.
mod vary;

/// `portfolio.toml` as it is written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortfolioShape {
    /// `[site.NAME]`: places with their own power.
    #[serde(default)]
    pub site: BTreeMap<String, SiteShape>,
    /// `[pool.NAME]`: machines that can stand in for each other.
    #[serde(default)]
    pub pool: BTreeMap<String, PoolShape>,
}

/// A checked portfolio. `facts` and `pools` run in parallel, ordered by name.
#[derive(Debug, Default)]
pub struct Portfolio {
    /// What policies may know of each pool.
    pub facts: Vec<PoolFacts>,
    /// What is needed to call each pool.
    pub pools: Vec<Pool>,
    /// Every endpoint, pool by pool.
    pub endpoints: Vec<Endpoint>,
}

impl Portfolio {
    /// The endpoints with nothing to do, their limits untouched; those of draining pools drain.
    pub fn idle(&self) -> Vec<EndpointState> {
        let state = |endpoint: &Endpoint| {
            let pool = self.pools.get(endpoint.pool);
            let draining = pool.is_some_and(|pool| pool.drain);
            EndpointState {
                availability: if draining { Availability::Draining } else { Availability::Ready },
                lease: pool.and_then(|pool| pool.limits).and_then(|limits| Limiter::new(limits).state(Micros(0))),
                ..EndpointState::idle(endpoint.pool)
            }
        };
        self.endpoints.iter().map(state).collect()
    }
}

/// What is needed to call a pool.
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its wire format.
    pub dialect: &'static dyn Dialect,
    /// Its key.
    pub api_key: Option<SecretString>,
    /// Whether the caller's own key is passed on.
    pub forward_authorization: bool,
    /// Whether it takes no new work.
    pub drain: bool,
    /// Whether its engines go on with answers that were begun elsewhere.
    pub continues_answers: bool,
    /// HTTP version to speak.
    pub version: Version,
    /// How to speak TLS; present if any endpoint does.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// What the provider allows.
    pub limits: Option<RateLimits>,
    /// What one endpoint is sent at once; everything where `None`.
    pub window: Option<Window>,
    /// How its engines are asked for their metrics.
    pub metrics: Option<Metrics>,
    /// How its machines are asked whether they are well; the path is below an endpoint's base path.
    pub health: Option<Probe>,
    /// Client's model name → the machines' name, where they differ.
    pub upstream_models: BTreeMap<String, String>,
    /// What is owed for it.
    pub commitment: Option<Commitment>,
}

impl Pool {
    /// A text of a machine without the pool's key: some providers repeat the key they refuse.
    pub fn redact(&self, text: String) -> String {
        match &self.api_key {
            Some(key) if text.contains(key.expose_secret()) => text.replace(key.expose_secret(), "[key]"),
            _ => text,
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).field("dialect", &self.dialect.name()).finish_non_exhaustive()
    }
}

/// One address of a pool.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its stable name.
    pub id: EndpointId,
    /// Index of its pool.
    pub pool: usize,
    /// Where it listens.
    pub address: Address,
    paths: [(Api, PathAndQuery); 3],
}

impl Endpoint {
    /// The path that serves an API, base path included.
    pub fn path(&self, api: Api) -> PathAndQuery {
        let found = self.paths.iter().find(|(known, _)| *known == api);
        found.map_or_else(|| PathAndQuery::from_static("/"), |(_, path)| path.clone())
    }
}

/// Whether missing secrets stop a portfolio from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// They do: it is going to serve.
    Required,
    /// They are mentioned: it is only being checked.
    Optional,
}

/// Reads and checks a portfolio; `Some` if there is no error in the report. `folder` is what relative paths in the file
/// start from.
pub fn load(source: Source, folder: &Path, secrets: Secrets) -> (Option<Portfolio>, Report) {
    let mut report = Report::new(source);
    let shape: Option<PortfolioShape> = read(&mut report);
    let mut building = Building { report, folder, secrets, known: HashSet::new(), portfolio: Portfolio::default() };
    for (name, pool) in shape.iter().flat_map(|shape| &shape.pool) {
        building.pool(name, pool, shape.as_ref().map(|shape| &shape.site));
    }
    if shape.is_some_and(|shape| shape.pool.is_empty()) && !building.report.has_errors() {
        let empty = Diagnostic::error("no-pools", "the portfolio has no pool");
        building.report.push(empty.help("add a `[pool.NAME]` with `hardware` and `endpoints`"));
    }
    let Building { report, portfolio, .. } = building;
    (if report.has_errors() { None } else { Some(portfolio) }, report)
}

struct Building<'a> {
    report: Report,
    folder: &'a Path,
    secrets: Secrets,
    known: HashSet<EndpointId>,
    portfolio: Portfolio,
}

impl Building<'_> {
    fn pool(&mut self, name: &str, shape: &PoolShape, sites: Option<&BTreeMap<String, SiteShape>>) {
        let index = self.portfolio.pools.len();
        let version = version(shape.http);
        let site = shape.site.as_ref().and_then(|site| self.site(site, sites));
        let hardware = self.hardware(&shape.hardware);
        let dialect = self.dialect(shape.dialect.as_ref());
        let addresses: Vec<Address> = shape.endpoints.iter().filter_map(|url| self.address(url)).collect();
        let tls = self.tls(shape, version, addresses.iter().any(|address| address.tls));
        let metrics = metrics::read(shape, &mut self.report);
        let health = health::read(shape, &mut self.report);
        let api_key = shape.api_key.as_ref().and_then(|reference| self.secret(reference));
        if shape.model.is_empty() {
            let none =
                Diagnostic::warning("no-models", format!("pool `{name}` serves no model, so nothing is routed to it"));
            let help = format!("add `[pool.{name}.model.\"MODEL\"]`");
            self.report.push(none.at(shape.hardware.span.clone()).help(help));
        }
        let commitment = shape.commitment.as_ref().and_then(|commitment| self.commitment(commitment));
        let (Some(hardware), Some(dialect)) = (hardware, dialect) else { return };
        let facts = facts(name, shape, hardware, site);
        let window = shape.flow_control.then(|| window::of(&facts, shape.window.unwrap_or_default()));
        self.portfolio.facts.push(facts);
        self.portfolio.pools.push(Pool {
            name: name.to_owned(),
            dialect,
            api_key,
            forward_authorization: shape.forward_authorization,
            drain: shape.drain,
            continues_answers: shape.continues_answers,
            version,
            tls,
            window,
            metrics,
            health,
            limits: shape.limits.and_then(LimitsShape::rate_limits),
            upstream_models: shape.model.iter().filter_map(upstream_name).collect(),
            commitment,
        });
        for (address, url) in addresses.into_iter().zip(&shape.endpoints) {
            let endpoint = endpoint(name, index, address, dialect);
            if !self.known.insert(endpoint.id.clone()) {
                let mut twice = Diagnostic::error("repeated-endpoint", format!("`{}` is given twice", url.value));
                if let Some(first) = shape.endpoints.iter().find(|first| **first == *url) {
                    twice = twice.also(first.span.clone(), "first given here");
                }
                self.report.push(twice.at(url.span.clone()).help("each address stands once in a pool"));
            }
            if let Some(facts) = self.portfolio.facts.last_mut() {
                facts.endpoints.push(endpoint.id.to_string());
            }
            self.portfolio.endpoints.push(endpoint);
        }
    }

    fn site<'s>(
        &mut self,
        name: &Located<String>,
        sites: Option<&'s BTreeMap<String, SiteShape>>,
    ) -> Option<&'s SiteShape> {
        let found = sites.and_then(|sites| sites.get(&name.value));
        if found.is_none() {
            let known = sites.into_iter().flat_map(|sites| sites.keys().map(String::as_str));
            self.unknown("unknown-site", "site", name, known, "add a `[site.NAME]`");
        }
        found
    }

    fn hardware(&mut self, name: &Located<String>) -> Option<&'static hardware::Hardware> {
        let found = hardware::find(&name.value);
        if found.is_none() {
            let known = hardware::names();
            self.unknown("unknown-hardware", "hardware", name, known, "`pointsman hardware` lists the catalog");
        }
        found
    }

    fn dialect(&mut self, name: Option<&Located<String>>) -> Option<&'static dyn Dialect> {
        let Some(name) = name else { return dialects::find("openai") };
        let found = dialects::find(&name.value);
        if found.is_none() {
            let known: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name()).collect();
            let help = format!("known dialects: {}", known.join(", "));
            self.unknown("unknown-dialect", "dialect", name, known, &help);
        }
        found
    }

    fn commitment(&mut self, shape: &Located<CommitmentShape>) -> Option<Commitment> {
        let CommitmentShape { usd_per_month, tokens_per_month } = shape.value;
        if usd_per_month.is_none() && tokens_per_month.is_none() {
            let nothing = Diagnostic::error("empty-commitment", "the commitment does not say what is owed");
            self.report.push(nothing.at(shape.span.clone()).help("give `usd_per_month`, `tokens_per_month` or both"));
            return None;
        }
        Some(Commitment { usd_per_month, tokens_per_month })
    }

    fn unknown<'n>(
        &mut self,
        code: &'static str,
        what: &str,
        name: &Located<String>,
        known: impl IntoIterator<Item = &'n str>,
        otherwise: &str,
    ) {
        let help = match nearest(&name.value, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => otherwise.to_owned(),
        };
        let unknown = Diagnostic::error(code, format!("unknown {what} `{}`", name.value));
        self.report.push(unknown.at(name.span.clone()).help(help));
    }

    fn address(&mut self, url: &Located<String>) -> Option<Address> {
        let parsed = Address::parse(&url.value);
        if let Err(error) = &parsed {
            // What stands before an `@` may be a secret.
            let shown = if url.value.contains('@') { "this" } else { &format!("`{}`", url.value) };
            let wrong = Diagnostic::error("bad-endpoint", format!("{shown} is not an endpoint: {error}"));
            self.report.push(wrong.at(url.span.clone()).help("write it like `https://machine.internal:8443`"));
        }
        parsed.ok()
    }

    fn tls(&mut self, shape: &PoolShape, version: Version, needed: bool) -> Option<Arc<rustls::ClientConfig>> {
        if !needed {
            return None;
        }
        let made = certificates::files(shape, self.folder);
        let made = made.and_then(|files| tls::client_of(&files, version).map_err(|error| error.to_string()));
        made.map_err(|error| self.report.push(certificates::refused(shape, error))).ok()
    }

    fn secret(&mut self, reference: &Located<crate::secret::SecretRef>) -> Option<SecretString> {
        match reference.value.resolve(self.folder) {
            Ok(secret) => Some(secret),
            Err(error) => {
                let diagnostic = match self.secrets {
                    Secrets::Required => Diagnostic::error("missing-secret", error),
                    Secrets::Optional => Diagnostic::warning("missing-secret", error).help("`serve` will refuse this"),
                };
                self.report.push(diagnostic.at(reference.span.clone()));
                None
            }
        }
    }
}

/// What policies may know of a pool, its endpoints aside.
fn facts(name: &str, shape: &PoolShape, hardware: &hardware::Hardware, site: Option<&SiteShape>) -> PoolFacts {
    let mut service = hardware.service_model();
    if let Some(overrides) = &shape.service {
        service = overrides.apply(service);
    }
    if let Some(slots) = shape.limits.and_then(|limits| limits.slots) {
        service.slots = slots;
    }
    PoolFacts {
        name: name.to_owned(),
        site: shape.site.as_ref().map_or_else(String::new, |site| site.value.clone()),
        vendor: shape.vendor.clone().unwrap_or_else(|| hardware.vendor.clone()),
        hardware: shape.hardware.value.clone(),
        kind: hardware.kind,
        endpoints: Vec::new(),
        labels: shape.labels.clone(),
        models: shape.model.iter().map(|(name, model)| model.facts(name)).collect(),
        service,
        round_trip_ms: site.and_then(|site| site.round_trip_ms.as_ref()).map_or(0.0, |ms| ms.value),
        carbon_g_per_kwh: site.and_then(|site| site.carbon_g_per_kwh),
        pue: site.and_then(|site| site.pue).unwrap_or(1.0),
        usd_per_kwh: shape.usd_per_kwh.or(site.and_then(|site| site.usd_per_kwh)),
        power_cap_kw: site.and_then(|site| site.power_cap_kw),
    }
}

fn version(http: Option<HttpVersion>) -> Version {
    match http {
        None | Some(HttpVersion::Auto) => Version::Negotiated,
        Some(HttpVersion::H1) => Version::Http1,
        Some(HttpVersion::H2) => Version::Http2,
    }
}

fn endpoint(pool_name: &str, pool: usize, address: Address, dialect: &dyn Dialect) -> Endpoint {
    let path = |api| {
        let path = format!("{}{}", address.base_path, dialect.path(api));
        (api, path.parse().unwrap_or_else(|_| PathAndQuery::from_static("/")))
    };
    let paths = [Api::ChatCompletions, Api::Completions, Api::Embeddings].map(path);
    Endpoint { id: EndpointId::new(pool_name, &address), pool, address, paths }
}

fn upstream_name((name, model): (&String, &ModelShape)) -> Option<(String, String)> {
    model.upstream.clone().filter(|upstream| upstream != name).map(|upstream| (name.clone(), upstream))
}
