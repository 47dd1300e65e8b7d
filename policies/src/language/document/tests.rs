//! Documents of a made-up shape: what is told, and what is left.

#![expect(dead_code, reason = "of most fields only the shape matters")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::*;
use crate::language::{LocalDate, Located, Source};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Park {
    /// How the park is called.
    #[schemars(length(min = 1))]
    name: Located<String>,
    #[serde(default)]
    track: BTreeMap<Located<String>, Track>,
    #[serde(default)]
    stop: Vec<Stop>,
    secret: Option<Secret>,
    opened: Option<LocalDate>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Track {
    /// Length of the track, kilometres.
    #[schemars(extend("exclusiveMinimum" = 0))]
    length_km: Option<Located<f64>>,
    gauge: Option<Gauge>,
    /// Carbon intensity, grams per kilowatt-hour.
    carbon: Option<Carbon>,
    rails: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Stop {
    at: String,
    #[serde(default)]
    lit: bool,
    limits: Option<Limits>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Limits {
    /// Trains per hour.
    #[schemars(range(min = 1))]
    trains: u64,
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Gauge {
    /// Wide.
    Broad,
    Standard,
    ExtraNarrow,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Carbon {
    Flat(f64),
    Hourly([f64; 3]),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Secret {
    Env(FromEnv),
    File(FromFile),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FromEnv {
    env: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FromFile {
    file: String,
}

fn park(text: &str) -> (Option<Park>, Report) {
    let mut report = Report::new(Source::new("park.toml", text));
    let park = read::<Park>(&mut report);
    (park, report)
}

fn told(text: &str) -> String {
    park(text).1.render(false)
}

#[test]
fn a_sound_document_is_read_whole() {
    let (park, report) = park(concat!(
        "name = 'p'\nsecret = { env = 'A' }\nopened = 2026-09-15\n",
        "[track.b]\nlength_km = 3\ncarbon = [1, 2, 3.5]\ngauge = 'extra-narrow'\n[track.a]\ncarbon = 4\n[[stop]]\nat = 'x'\n",
    ));
    assert_eq!(report.render(false), "");
    let park = park.unwrap();
    assert_eq!((park.name.as_str(), park.name.span.clone()), ("p", 7..10));
    assert_eq!(park.opened.unwrap().to_string(), "2026-09-15");
    let mut tracks: Vec<_> = park.track.keys().collect();
    tracks.sort_by_key(|name| name.span.start);
    assert_eq!(tracks.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["b", "a"], "spans keep the file's order");
}

#[test]
fn every_mistake_is_told_at_its_place() {
    let text = r#"
nam = "p"
secret = { evn = "A" }
opened = "2026-09-15"
[track.a]
length_km = "3"
carbon = [1, 2]
rails = 2.5
gauge = "brod"
[track.b]
length_km = -1
carbon = "clean"
gauge = "purple"
colour = "red"
[[stop]]
lit = 1
limits = { trains = 0 }
[[stop]]
at = "x"
limits = {}
"#;
    insta::assert_snapshot!(told(text));
}

#[test]
fn what_is_sound_is_left() {
    let (park, report) =
        park("name = 'p'\n[track.a]\nrails = 'x'\nlength_km = 2\n[[stop]]\nlit = true\n[[stop]]\nat = 'y'\n");
    let park = park.unwrap();
    let track = park.track.values().next().unwrap();
    assert_eq!(track.length_km.as_ref().unwrap().value, 2.0);
    assert!(track.rails.is_none());
    assert_eq!(park.stop.len(), 1, "the stop without `at` is cut out");
    assert_eq!(report.len(), 2, "{report}");
    assert!(super::tests::park("opened = 2026-01-01").0.is_none(), "nothing is left without a name");
}

#[test]
fn syntax_errors_are_told_once_each_and_hide_guesses() {
    insta::assert_snapshot!(told("nmae = 'p'\nname = \n[track.a]\nrails 3\ngauge = 'broad\nx = [1, 2\n[stop]\n"));
}

#[test]
fn hostile_texts_are_refused_without_harm() {
    let check = |text: String| {
        let (park, report) = park(&text);
        assert!(park.is_none() && report.has_errors() && report.render(false).len() < 8192, "{:.40}", text);
    };
    check("#".repeat(MAX_TEXT_BYTES + 1));
    check("a.".repeat(10_000) + "a = 1");
    check("x = ".to_owned() + &"[".repeat(10_000));
    check("x = ".to_owned() + &"{a=".repeat(10_000));
    check("[".to_owned() + &"a.".repeat(10_000) + "a]\n");
    check("=\n".repeat(10_000));
    check("name = \"\u{0}\"".to_owned());
}

#[test]
fn the_schema_promises_what_is_enforced() {
    insta::assert_snapshot!(schema_text::<Park>("park.toml"));
}
