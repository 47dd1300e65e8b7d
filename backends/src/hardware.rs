//! The hardware catalog: what each kind of machine can do, draw and cost, every number with its source.

use std::fmt;
use std::sync::LazyLock;

use pointsman_policies::fleet::{HardwareKind, Price, ServiceModel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lease::RateLimits;

/// The catalog as shipped.
const CATALOG: &str = include_str!("../hardware.toml");

/// The shipped catalog, parsed once.
pub fn catalog() -> &'static Catalog {
    static PARSED: LazyLock<Catalog> = LazyLock::new(|| Catalog::parse(CATALOG));
    &PARSED
}

/// The shipped entry of this name or alias.
pub fn find(name: &str) -> Option<&'static Hardware> {
    catalog().find(name)
}

/// Names of all shipped entries, in catalog order, without aliases.
pub fn names() -> impl Iterator<Item = &'static str> {
    catalog().entries().iter().map(|entry| entry.name.as_str())
}

/// All entries.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    entries: Vec<Hardware>,
    error: Option<String>,
}

impl Catalog {
    /// Headings of the table that [`Hardware::row`] fills, with units.
    pub const COLUMNS: [&'static str; 17] = [
        "name",
        "kind",
        "step ms",
        "+ms/sequence",
        "+ns/KV token",
        "prefill tok/s",
        "fixed TTFT ms",
        "slots",
        "KV tokens",
        "jitter sigma",
        "tokens/event",
        "requests/min",
        "tokens/min",
        "kW",
        "J/token",
        "$/hour",
        "$/M in, out",
    ];

    /// A catalog from TOML text. Text that does not parse gives an empty catalog with an [`error`](Self::error).
    pub fn parse(text: &str) -> Catalog {
        match toml::from_str::<CatalogFile>(text) {
            Ok(file) => Catalog { entries: file.hardware, error: None },
            Err(error) => Catalog { entries: Vec::new(), error: Some(error.to_string()) },
        }
    }

    /// Entries in file order.
    pub fn entries(&self) -> &[Hardware] {
        &self.entries
    }

    /// The entry of this name or alias.
    pub fn find(&self, name: &str) -> Option<&Hardware> {
        self.entries.iter().find(|entry| entry.name == name || entry.aliases.iter().any(|alias| alias == name))
    }

    /// Why the text did not parse; never set for the shipped catalog, which a test reads.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogFile {
    hardware: Vec<Hardware>,
}

/// One entry: a kind of machine, serving a model of the gpt-oss-120b class unless its unit says otherwise.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// The name used in portfolio files.
    pub name: String,
    /// Other names accepted in portfolio files.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The name people use.
    pub title: String,
    /// How it behaves under load.
    pub kind: HardwareKind,
    /// Who makes it; `generic` where that does not matter.
    pub vendor: String,
    /// What one endpoint of it is.
    pub unit: String,
    /// Ranges behind the values, and what to know of them.
    pub note: String,
    /// One decode step with an empty batch, milliseconds.
    pub step_base_ms: Sourced<f64>,
    /// What each running sequence adds to a step, milliseconds.
    pub step_per_sequence_ms: Sourced<f64>,
    /// What each token in KV memory adds to a step, nanoseconds.
    pub step_per_kv_token_ns: Sourced<f64>,
    /// Prefill rate, tokens per second.
    pub prefill_tokens_per_s: Sourced<f64>,
    /// Time to first token of an empty prompt on an idle machine, milliseconds, without the network.
    pub fixed_ttft_ms: Sourced<f64>,
    /// Sequences that run at once.
    pub slots: Sourced<u32>,
    /// KV memory, tokens.
    pub kv_tokens: Option<Sourced<u64>>,
    /// Lognormal sigma of step times.
    pub jitter_sigma: Sourced<f64>,
    /// A rare pause in a stream, milliseconds.
    pub tail_ms: Option<Sourced<f64>>,
    /// Chance that an event of a stream meets the rare pause.
    pub tail_probability: Option<Sourced<f64>>,
    /// Tokens in one event of a stream, on average.
    pub tokens_per_event: Sourced<f64>,
    /// Requests a minute the provider admits.
    pub requests_per_minute: Option<Sourced<f64>>,
    /// Tokens a minute the provider admits.
    pub tokens_per_minute: Option<Sourced<f64>>,
    /// Whether the provider takes the caller's maximal output off the limit up front.
    pub reserves_output: Option<Sourced<bool>>,
    /// All-in power of one unit, kilowatts.
    pub power_kw: Option<Sourced<f64>>,
    /// Energy per output token, joules.
    pub joules_per_output_token: Option<Sourced<f64>>,
    /// Rent of one unit, US dollars per hour.
    pub usd_per_hour: Option<Sourced<f64>>,
    /// Price per million prompt tokens, US dollars.
    pub usd_per_m_input: Option<Sourced<f64>>,
    /// Price per million output tokens, US dollars.
    pub usd_per_m_output: Option<Sourced<f64>>,
}

impl Hardware {
    /// How it serves, as policies and simulators read it.
    pub fn service_model(&self) -> ServiceModel {
        ServiceModel {
            step_base_ms: self.step_base_ms.value,
            step_per_sequence_ms: self.step_per_sequence_ms.value,
            step_per_kv_token_ns: self.step_per_kv_token_ns.value,
            prefill_tokens_per_s: self.prefill_tokens_per_s.value,
            fixed_ttft_ms: self.fixed_ttft_ms.value,
            slots: self.slots.value,
            kv_tokens: value(self.kv_tokens),
            jitter_sigma: self.jitter_sigma.value,
            tokens_per_event: self.tokens_per_event.value,
            joules_per_output_token: value(self.joules_per_output_token),
            power_kw: value(self.power_kw),
            prefill_weight: 1.0,
        }
    }

    /// The price of tokens, where it is sold by the token.
    pub fn price(&self) -> Option<Price> {
        Some(Price { usd_per_m_input: self.usd_per_m_input?.value, usd_per_m_output: self.usd_per_m_output?.value })
    }

    /// The provider's rate limits, where they are known.
    pub fn rate_limits(&self) -> Option<RateLimits> {
        let limits = RateLimits {
            requests_per_minute: value(self.requests_per_minute),
            tokens_per_minute: value(self.tokens_per_minute),
            reserves_output: value(self.reserves_output).unwrap_or(false),
        };
        (limits.requests_per_minute.is_some() || limits.tokens_per_minute.is_some()).then_some(limits)
    }

    /// The cells of one table row under [`Catalog::COLUMNS`]: values with their sources, such as `5.5 D`; `-` where
    /// nothing is published.
    pub fn row(&self) -> [String; Catalog::COLUMNS.len()] {
        [
            self.name.clone(),
            self.kind.as_str().to_owned(),
            self.step_base_ms.to_string(),
            self.step_per_sequence_ms.to_string(),
            self.step_per_kv_token_ns.to_string(),
            self.prefill_tokens_per_s.to_string(),
            self.fixed_ttft_ms.to_string(),
            self.slots.to_string(),
            cell(self.kv_tokens),
            self.jitter_sigma.to_string(),
            self.tokens_per_event.to_string(),
            cell(self.requests_per_minute),
            cell(self.tokens_per_minute),
            cell(self.power_kw),
            cell(self.joules_per_output_token),
            cell(self.usd_per_hour),
            match (self.usd_per_m_input, self.usd_per_m_output) {
                (Some(input), Some(output)) => format!("{input}, {output}"),
                _ => "-".to_owned(),
            },
        ]
    }
}

fn value<T: Copy>(sourced: Option<Sourced<T>>) -> Option<T> {
    sourced.map(|sourced| sourced.value)
}

fn cell<T: fmt::Display>(sourced: Option<Sourced<T>>) -> String {
    sourced.map_or_else(|| "-".to_owned(), |sourced| sourced.to_string())
}

/// A number and where it comes from. Displays as `5.5 D`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sourced<T> {
    /// The number, in the unit its field tells.
    pub value: T,
    /// Where it comes from.
    pub source: Source,
}

impl<T: fmt::Display> fmt::Display for Sourced<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.value, self.source.letter())
    }
}

/// Where a number of the catalog comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Source {
    /// Read in a primary source.
    #[serde(rename = "S")]
    Primary,
    /// Derived by arithmetic from primary sources.
    #[serde(rename = "D")]
    Derived,
    /// Press only.
    #[serde(rename = "2")]
    Press,
    /// Recalled; a knob, not a fact.
    #[serde(rename = "R")]
    Recalled,
    /// Assumed; a knob, not a fact.
    #[serde(rename = "A")]
    Assumed,
}

impl Source {
    /// The tag used in the catalog file.
    pub fn letter(self) -> char {
        match self {
            Source::Primary => 'S',
            Source::Derived => 'D',
            Source::Press => '2',
            Source::Recalled => 'R',
            Source::Assumed => 'A',
        }
    }
}

/// What a pool measured of its own machines, in place of the catalog's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceOverrides {
    /// One decode step with an empty batch, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e9))]
    #[schemars(example = 5.5)]
    pub step_base_ms: Option<f64>,
    /// What each running sequence adds to a step, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e9))]
    #[schemars(example = 0.05)]
    pub step_per_sequence_ms: Option<f64>,
    /// What each token in KV memory adds to a step, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e9))]
    #[schemars(example = 2)]
    pub step_per_kv_token_ns: Option<f64>,
    /// Prefill rate, tokens per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 1e9))]
    #[schemars(example = 20_000)]
    pub prefill_tokens_per_s: Option<f64>,
    /// Time to first token of an empty prompt on an idle machine, milliseconds, without the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e9))]
    #[schemars(example = 30)]
    pub fixed_ttft_ms: Option<f64>,
    /// Sequences that run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    #[schemars(example = 64)]
    pub slots: Option<u32>,
    /// KV memory, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    #[schemars(example = 1_000_000)]
    pub kv_tokens: Option<u64>,
    /// Lognormal sigma of step times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e9))]
    #[schemars(example = 0.1)]
    pub jitter_sigma: Option<f64>,
    /// Tokens in one event of a stream, on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 1e9))]
    #[schemars(example = 1)]
    pub tokens_per_event: Option<f64>,
    /// Energy per output token, joules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e9))]
    #[schemars(example = 0.4)]
    pub joules_per_output_token: Option<f64>,
    /// All-in power of one unit, kilowatts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1e9))]
    #[schemars(example = 1.3)]
    pub power_kw: Option<f64>,
}

impl ServiceOverrides {
    /// The model with every number given here in place of its own.
    pub fn apply(&self, base: ServiceModel) -> ServiceModel {
        ServiceModel {
            step_base_ms: self.step_base_ms.unwrap_or(base.step_base_ms),
            step_per_sequence_ms: self.step_per_sequence_ms.unwrap_or(base.step_per_sequence_ms),
            step_per_kv_token_ns: self.step_per_kv_token_ns.unwrap_or(base.step_per_kv_token_ns),
            prefill_tokens_per_s: self.prefill_tokens_per_s.unwrap_or(base.prefill_tokens_per_s),
            fixed_ttft_ms: self.fixed_ttft_ms.unwrap_or(base.fixed_ttft_ms),
            slots: self.slots.unwrap_or(base.slots),
            kv_tokens: self.kv_tokens.or(base.kv_tokens),
            jitter_sigma: self.jitter_sigma.unwrap_or(base.jitter_sigma),
            tokens_per_event: self.tokens_per_event.unwrap_or(base.tokens_per_event),
            joules_per_output_token: self.joules_per_output_token.or(base.joules_per_output_token),
            power_kw: self.power_kw.or(base.power_kw),
            prefill_weight: base.prefill_weight,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pointsman_policies::fleet::PoolFacts;
    use pointsman_policies::power;
    use pointsman_policies::units::Micros;

    use super::*;
    use crate::simulators::engine::{Engine, Job};
    use crate::simulators::profile::Profile;

    #[test]
    fn the_shipped_catalog_parses_and_every_name_is_found_once() {
        assert_eq!(catalog().error(), None);
        let expected = ["a100", "h100", "h200", "b200", "gb200", "cs3", "groq-lpu", "cpu", "cloud-api"];
        assert_eq!(names().collect::<Vec<_>>(), expected);
        for (alias, name) in [("groq", Some("groq-lpu")), ("cs3", Some("cs3")), ("tpu", None)] {
            assert_eq!(find(alias).map(|entry| entry.name.as_str()), name, "{alias}");
        }
    }

    #[test]
    fn every_entry_can_serve() {
        for entry in catalog().entries() {
            let model = entry.service_model();
            let positive = [model.step_base_ms, model.prefill_tokens_per_s, model.tokens_per_event];
            assert!(positive.iter().all(|number| *number > 0.0), "{}", entry.name);
            let rest =
                [model.step_per_sequence_ms, model.step_per_kv_token_ns, model.fixed_ttft_ms, model.jitter_sigma];
            assert!(rest.iter().all(|number| *number >= 0.0 && number.is_finite()), "{}", entry.name);
            assert!(model.slots > 0, "{}", entry.name);
        }
    }

    fn pool_of(name: &str) -> PoolFacts {
        let entry = find(name).expect("shipped");
        PoolFacts {
            name: String::new(),
            site: String::new(),
            vendor: String::new(),
            endpoints: Vec::new(),
            hardware: name.to_owned(),
            kind: entry.kind,
            labels: BTreeMap::new(),
            models: Vec::new(),
            service: entry.service_model(),
            round_trip_ms: 0.0,
            carbon_g_per_kwh: None,
            usd_per_kwh: None,
            power_cap_kw: None,
            pue: 1.0,
        }
    }

    /// How many times an H100's energy a like answer takes. An H200 is the same chip with quicker memory.
    #[test]
    fn energy_of_like_machines_is_alike_whether_published_by_the_token_or_not() {
        let joules = |name: &str, prompt_tokens| {
            power::joules(&pool_of(name), prompt_tokens, 150, 0).expect("power is published")
        };
        for prompt_tokens in [10, 1_200, 20_000] {
            for (name, least, most) in [("h200", 0.55, 0.95), ("a100", 0.7, 1.6), ("b200", 0.2, 0.5)] {
                let ratio = joules(name, prompt_tokens) / joules("h100", prompt_tokens);
                assert!((least..most).contains(&ratio), "{name}: {ratio} of an h100's at {prompt_tokens}");
            }
        }
    }

    /// Streams that follow one another, so many at once, on a machine whose meter runs.
    #[test]
    fn what_answers_are_booked_with_adds_up_to_what_a_machine_at_work_draws() {
        for (name, at_once, prompt_tokens, output_tokens) in
            [("h200", 20, 1_000, 300), ("h200", 60, 3_000, 200), ("a100", 30, 1_000, 300)]
        {
            let (pool, mut engine) = (pool_of(name), Engine::new(Profile::of(find(name).expect("shipped")), 1));
            let (mut now, mut sent, mut booked) = (Micros(0), Vec::new(), 0.0);
            let mut ids = 0..20 * at_once;
            let mut submit = |engine: &mut Engine, now: Micros| {
                let job = |id| Job { id, prompt_tokens, output_tokens, ..Job::default() };
                ids.next().map(|id| engine.submit(now, job(id)));
            };
            (0..at_once).for_each(|_| submit(&mut engine, now));
            while let Some(next) = engine.next_event() {
                now = next;
                engine.advance(now, &mut sent);
                for _ in sent.drain(..).filter(|emission| emission.last) {
                    let neighbours = u32::try_from(engine.running()).unwrap_or(u32::MAX);
                    booked +=
                        power::joules(&pool, prompt_tokens, output_tokens, neighbours).expect("power is published");
                    submit(&mut engine, now);
                }
            }
            let (drawn, ratio) = (engine.energy(now).joules, booked / engine.energy(now).joules);
            assert!((0.85..1.15).contains(&ratio), "{name}, {at_once} at once: {booked} J of {drawn} J");
        }
    }

    #[test]
    fn a_row_shows_each_number_with_its_source() {
        let row = find("cs3").expect("shipped").row();
        assert_eq!(row[0], "cs3");
        assert_eq!(row[2], "0.55 D");
        assert_eq!(row[8], "-");
        assert_eq!(row[16], "0.35 S, 0.75 S");
    }

    #[test]
    fn an_override_replaces_what_it_names_and_keeps_the_rest() {
        let base = find("h100").expect("shipped").service_model();
        let overrides: ServiceOverrides = toml::from_str("slots = 32\nkv_tokens = 1000").expect("two known keys");
        let model = overrides.apply(base.clone());
        assert_eq!((model.slots, model.kv_tokens), (32, Some(1000)));
        assert_eq!(ServiceModel { slots: base.slots, kv_tokens: base.kv_tokens, ..model }, base);
        assert!(toml::from_str::<ServiceOverrides>("slot = 32").is_err());
    }

    #[test]
    fn text_that_is_no_catalog_leaves_an_error_and_no_entries() {
        let catalog = Catalog::parse("[[hardware]]\nname = 3");
        assert!(catalog.entries().is_empty());
        assert!(catalog.error().is_some());
    }
}
