//! What `deploy/observability` asks Prometheus for exists: each metric in the gateway, each recorded series in the rules.

use std::collections::BTreeSet;

const FILES: [(&str, &str); 6] = [
    ("rules.yml", include_str!("../../deploy/observability/rules.yml")),
    ("rules.test.yml", include_str!("../../deploy/observability/rules.test.yml")),
    ("dashboard.json", include_str!("../../deploy/observability/dashboard.json")),
    ("prometheus.yml", include_str!("../../deploy/observability/prometheus.yml")),
    ("collector.yml", include_str!("../../deploy/observability/collector.yml")),
    ("README.md", include_str!("../../deploy/observability/README.md")),
];

/// Words that begin so, without what stands behind them.
fn words(text: &'static str, start: &str) -> BTreeSet<&'static str> {
    let part = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
    text.split(|character| !part(character)).filter(|word| word.starts_with(start)).collect()
}

/// Names of the table, each with the endings under which Prometheus keeps it.
fn series() -> BTreeSet<String> {
    let table = include_str!("../../gateway/src/telemetry/names.rs").split("#[cfg(test)]").next().unwrap_or_default();
    let (_, metrics) = table.split_once("pub mod metric {").expect("the table of metrics");
    let names = metrics.lines().filter_map(|line| line.split('"').nth(1));
    let endings = ["", "_total", "_bucket", "_sum", "_count"];
    names.flat_map(|name| endings.map(|ending| format!("{name}{ending}"))).collect()
}

#[test]
fn every_metric_that_is_asked_for_exists() {
    let (series, mut used) = (series(), 0);
    for (file, text) in FILES {
        for name in words(text, "pointsman_").union(&words(text, "gen_ai_server_")) {
            assert!(series.contains(*name), "`{name}` in deploy/observability/{file} is no metric of the gateway");
            used += 1;
        }
    }
    assert!(used > 30, "{used}");
}

#[test]
fn every_recorded_series_that_is_asked_for_is_recorded() {
    let rules = FILES[0].1;
    let recorded: BTreeSet<_> =
        rules.lines().filter_map(|line| line.split_once("- record: ")).map(|(_, name)| name).collect();
    assert!(recorded.len() > 10, "{recorded:?}");
    for (file, text) in FILES {
        for name in words(text, "pointsman:") {
            assert!(recorded.contains(name), "`{name}` in deploy/observability/{file} is not recorded");
        }
    }
}

#[test]
fn the_dashboard_is_one() {
    let dashboard: serde_json::Value = serde_json::from_str(FILES[2].1).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its id is another panel's");
        let (x, width) = (panel["gridPos"]["x"].as_u64(), panel["gridPos"]["w"].as_u64());
        assert!(x.zip(width).is_some_and(|(x, width)| x + width <= 24), "{title} is too wide");
        let targets = panel["targets"].as_array().map_or(0, Vec::len);
        assert_eq!(targets == 0, panel["type"] == "row", "{title} asks for something");
    }
    assert!(panels.len() > 20);
}
