//! The fields an expression may read, in one table: names, types, getters, and what each means.

use crate::facts::Api;
use crate::fleet::{HardwareKind, PoolFacts, PoolLoad};
use crate::policy::Env;

use super::super::Severity;
use super::Scope;

/// A field as the reference shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FieldDoc {
    /// The name as written in an expression.
    pub name: &'static str,
    /// `string`, `int`, `double`, `bool` or `map`.
    pub kind: &'static str,
    /// Least and most, where they are known.
    pub bounds: Option<(f64, f64)>,
    /// Whether it changes while the pool works.
    pub live: bool,
    /// What it is, with its unit.
    pub doc: &'static str,
}

/// Every field an expression may read.
pub fn fields() -> impl Iterator<Item = FieldDoc> {
    FIELDS.iter().map(|field| FieldDoc {
        name: field.name,
        kind: field.get.kind(),
        bounds: field.bounds,
        live: LIVE.contains(&field.name),
        doc: field.doc,
    })
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) get: Get,
    pub(super) known: Known,
    /// The least and the most that a number can be, where that is known; it is then never not-a-number.
    pub(super) bounds: Option<(f64, f64)>,
    pub(super) doc: &'static str,
}

/// How a field is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Get {
    Text(for<'r, 'e> fn(&'r Env<'e>) -> &'r str),
    Int(fn(&Env<'_>) -> i64),
    Double(fn(&Env<'_>) -> f64),
    Bool(fn(&Env<'_>) -> bool),
    Map(Map),
}

/// A field with members that are named by the operator or the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    Headers,
    Labels,
}

/// Which values a text field can have, where that is known at load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Anything,
    Api,
    Model,
    Class,
    DeclaredClass,
    Pool,
    Site,
    Vendor,
    Hardware,
    Kind,
}

impl Get {
    fn kind(&self) -> &'static str {
        match self {
            Get::Text(_) => "string",
            Get::Int(_) => "int",
            Get::Double(_) => "double",
            Get::Bool(_) => "bool",
            Get::Map(_) => "map",
        }
    }
}

impl Map {
    /// The member by name; `None` where there is none.
    pub(super) fn member<'r>(self, env: &'r Env<'_>, name: &str) -> Option<&'r str> {
        match self {
            Map::Headers => env.facts.headers.header(name),
            Map::Labels => env.pool?.labels.get(name).map(String::as_str),
        }
    }
}

impl Known {
    /// What one such value is called, the values there are, and how bad any other is; `None` where anything goes.
    pub(super) fn values<'a>(self, scope: &Scope<'a>) -> Option<(&'static str, Vec<&'a str>, Severity)> {
        let of_pools = |get: fn(&'a PoolFacts) -> &'a str| {
            let mut values: Vec<&str> = scope.pools.iter().map(get).filter(|value| !value.is_empty()).collect();
            values.sort_unstable();
            values.dedup();
            values
        };
        let classes = || scope.classes.iter().map(String::as_str).collect();
        let (noun, values, severity) = match self {
            Known::Anything => return None,
            Known::Api => ("api", Api::ALL.iter().map(|api| api.as_str()).collect(), Severity::Error),
            Known::Model => ("model", models(scope.pools), Severity::Warning),
            Known::Class => ("class", classes(), Severity::Error),
            Known::DeclaredClass => ("class", classes(), Severity::Warning),
            Known::Pool => ("pool", of_pools(|pool| &pool.name), Severity::Error),
            Known::Site => ("site", of_pools(|pool| &pool.site), Severity::Warning),
            Known::Vendor => ("vendor", of_pools(|pool| &pool.vendor), Severity::Warning),
            Known::Hardware => ("hardware", of_pools(|pool| &pool.hardware), Severity::Warning),
            Known::Kind => {
                ("hardware kind", HardwareKind::ALL.iter().map(|kind| kind.as_str()).collect(), Severity::Error)
            }
        };
        (!values.is_empty()).then_some((noun, values, severity))
    }
}

/// The models that any pool serves.
fn models(pools: &[PoolFacts]) -> Vec<&str> {
    let mut names: Vec<&str> = pools.iter().flat_map(|pool| &pool.models).map(|model| model.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Fields of a pool that change while it works.
pub(super) const LIVE: [&str; 4] = ["pool.endpoints", "pool.ready", "pool.in_flight", "pool.busy"];

const SECONDS_A_DAY: i64 = 86_400;

/// A count as CEL's only integer.
fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn load(env: &Env<'_>, count: fn(&PoolLoad) -> u32) -> i64 {
    env.load.map_or(0, |load| i64::from(count(load)))
}

fn local_s(env: &Env<'_>) -> i64 {
    int(env.facts.unix_s).saturating_add(i64::from(env.utc_offset_s))
}

/// Seconds since midnight by the policy's clock.
fn clock(env: &Env<'_>) -> i64 {
    local_s(env).rem_euclid(SECONDS_A_DAY)
}

/// The first day of 1970 was a Thursday.
fn weekday(env: &Env<'_>) -> i64 {
    (local_s(env).div_euclid(SECONDS_A_DAY) + 3).rem_euclid(7) + 1
}

const fn text(name: &'static str, get: for<'r, 'e> fn(&'r Env<'e>) -> &'r str, doc: &'static str) -> Field {
    Field { name, get: Get::Text(get), known: Known::Anything, bounds: None, doc }
}

const fn known(
    name: &'static str,
    known: Known,
    get: for<'r, 'e> fn(&'r Env<'e>) -> &'r str,
    doc: &'static str,
) -> Field {
    Field { name, get: Get::Text(get), known, bounds: None, doc }
}

/// A count: at least 0.
const fn count(name: &'static str, get: fn(&Env<'_>) -> i64, doc: &'static str) -> Field {
    within(name, get, (0.0, f64::INFINITY), doc)
}

const fn within(name: &'static str, get: fn(&Env<'_>) -> i64, bounds: (f64, f64), doc: &'static str) -> Field {
    Field { name, get: Get::Int(get), known: Known::Anything, bounds: Some(bounds), doc }
}

const fn other(name: &'static str, get: Get, doc: &'static str) -> Field {
    Field { name, get, known: Known::Anything, bounds: None, doc }
}

/// The table. Names of the form `a.b.c` are looked up whole.
pub(super) static FIELDS: [Field; 31] = [
    known(
        "request.api",
        Known::Api,
        |env| env.facts.api.as_str(),
        "the client API: `chat`, `completions` or `embeddings`",
    ),
    text("request.path", |env| env.facts.path, "the path as the client sent it, without query"),
    known("request.model", Known::Model, |env| env.facts.model, "the model the client named, before any alias"),
    other("request.stream", Get::Bool(|env| env.facts.stream), "whether the client asked for a stream"),
    text("request.service_tier", |env| env.facts.service_tier, "`service_tier` of the body; empty where absent"),
    known(
        "request.declared_class",
        Known::DeclaredClass,
        |env| env.facts.declared_class,
        "the class the caller declared; empty where absent",
    ),
    known("request.class", Known::Class, |env| env.class, "the class of the request; not in `[[classify]]`"),
    text("request.tenant", |env| env.facts.tenant, "who asks; empty where unknown"),
    count("request.input_tokens", |env| int(env.facts.input_tokens), "estimated length of the prompt, tokens"),
    count(
        "request.max_output_tokens",
        |env| int(env.facts.max_output_tokens.unwrap_or(0)),
        "the caller's bound on the answer, tokens; 0 where none",
    ),
    count("request.output_tokens", |env| int(env.facts.output_tokens), "expected length of the answer, tokens"),
    count("request.tools", |env| int(env.facts.tools), "how many tools the body offers"),
    count("request.images", |env| int(env.facts.images), "how many images the body carries"),
    other(
        "request.deadline_ms",
        Get::Double(|env| env.facts.deadline_ms.unwrap_or(0.0)),
        "the whole answer is wanted within this many milliseconds; 0 where the caller set none",
    ),
    other(
        "request.slo_ttft_ms",
        Get::Double(|env| env.facts.slo_ttft_ms.unwrap_or(0.0)),
        "the first token is wanted within this many milliseconds; 0 where the caller did not say",
    ),
    other(
        "request.slo_itl_ms",
        Get::Double(|env| env.facts.slo_itl_ms.unwrap_or(0.0)),
        "each further token is wanted within this many milliseconds; 0 where the caller did not say",
    ),
    text(
        "request.session",
        |env| env.facts.session,
        "what ties requests of a conversation together; empty where unknown",
    ),
    within("request.hour", |env| clock(env) / 3600, (0.0, 23.0), "hour of the day by the policy's clock, 0 to 23"),
    within(
        "request.minute",
        |env| clock(env) / 60 % 60,
        (0.0, 59.0),
        "minute of the hour by the policy's clock, 0 to 59",
    ),
    within("request.weekday", weekday, (1.0, 7.0), "day of the week by the policy's clock, 1 is Monday, 7 is Sunday"),
    other("request.headers", Get::Map(Map::Headers), "headers by name in any case; an absent one reads as empty"),
    known("pool.name", Known::Pool, |env| env.pool.map_or("", |pool| &pool.name), "the pool's name in the portfolio"),
    known("pool.site", Known::Site, |env| env.pool.map_or("", |pool| &pool.site), "the site's name; empty where none"),
    known("pool.vendor", Known::Vendor, |env| env.pool.map_or("", |pool| &pool.vendor), "who sells or owns it"),
    known(
        "pool.hardware.name",
        Known::Hardware,
        |env| env.pool.map_or("", |pool| &pool.hardware),
        "the entry of the hardware catalog",
    ),
    known(
        "pool.hardware.kind",
        Known::Kind,
        |env| env.pool.map_or("", |pool| pool.kind.as_str()),
        "`gpu`, `wafer`, `lpu`, `cpu` or `cloud`",
    ),
    count("pool.endpoints", |env| load(env, |load| load.endpoints), "how many endpoints it has"),
    count("pool.ready", |env| load(env, |load| load.ready), "how many of its endpoints may be asked now"),
    count("pool.in_flight", |env| load(env, |load| load.in_flight), "requests it is working on now"),
    Field {
        bounds: Some((0.0, f64::INFINITY)),
        ..other(
            "pool.busy",
            Get::Double(|env| env.load.map_or(0.0, PoolLoad::busy)),
            "the part of its slots that is taken now, 0 to 1; above 1 where requests wait",
        )
    },
    other("pool.labels", Get::Map(Map::Labels), "the operator's labels by name; an absent one reads as empty"),
];
