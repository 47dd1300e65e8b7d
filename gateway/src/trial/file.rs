//! Trials in the text of a policy: begun, changed and ended there, with every comment around them kept.

use serde::Deserialize;
use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, TomlError, Value};

use crate::config::candidate::TABLES;

/// How a candidate is to be tried; what is not given stays as the file has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase", tag = "mode", deny_unknown_fields)]
pub enum Wanted {
    /// Decides besides, and nothing comes of it.
    Shadow {
        /// Share of requests, 0 to 1.
        sample: Option<f64>,
    },
    /// Decides for a share.
    Canary {
        /// The share, 0 to 1.
        share: Option<f64>,
        /// `session`, `tenant` or `request`.
        by: Option<String>,
        /// Tenants that get it whole.
        tenants: Option<Vec<String>>,
        /// Points of attainment, 0 to 1.
        margin: Option<f64>,
        /// 0.5 to 1.
        confidence: Option<f64>,
        /// Requests of a class that each side must have had.
        min_requests: Option<i64>,
    },
}

impl Wanted {
    /// The name of its table.
    pub fn table(&self) -> &'static str {
        match self {
            Wanted::Shadow { .. } => "shadow",
            Wanted::Canary { .. } => "canary",
        }
    }
}

/// The text with a trial of a candidate, in the place of any other.
pub fn with_trial(policy_text: &str, candidate: &str, wanted: &Wanted) -> Result<String, TomlError> {
    let mut document: DocumentMut = policy_text.parse()?;
    for other in TABLES.iter().filter(|table| **table != wanted.table()) {
        document.remove(other);
    }
    let Some(table) = table_in(&mut document, wanted.table()) else { return Ok(document.to_string()) };
    set(table, "policy", Some(candidate));
    match wanted {
        Wanted::Shadow { sample } => set(table, "sample", *sample),
        Wanted::Canary { share, by, tenants, margin, confidence, min_requests } => {
            set(table, "share", *share);
            set(table, "by", by.as_deref());
            set(table, "tenants", tenants.as_ref().map(toml_edit::Array::from_iter));
            if margin.is_some() || confidence.is_some() || min_requests.is_some() {
                let rollback = table.entry("rollback").or_insert_with(|| Item::Value(InlineTable::new().into()));
                if let Some(rollback) = rollback.as_table_like_mut() {
                    set(rollback, "margin", *margin);
                    set(rollback, "confidence", *confidence);
                    set(rollback, "min_requests", *min_requests);
                }
            }
        }
    }
    Ok(document.to_string())
}

/// The text without its trial.
pub fn without_trial(policy_text: &str) -> Result<String, TomlError> {
    let mut document: DocumentMut = policy_text.parse()?;
    for table in TABLES {
        document.remove(table);
    }
    Ok(document.to_string())
}

fn table_in<'d>(document: &'d mut DocumentMut, name: &str) -> Option<&'d mut dyn TableLike> {
    let first = document.is_empty();
    let item = document.entry(name).or_insert_with(|| {
        let mut table = Table::new();
        table.decor_mut().set_prefix(if first { "" } else { "\n" });
        Item::Table(table)
    });
    item.as_table_like_mut()
}

/// Sets a key and keeps what is written around its value.
fn set(table: &mut dyn TableLike, key: &str, value: Option<impl Into<Value>>) {
    let Some(value) = value else { return };
    let mut value = value.into();
    if let Some(old) = table.get(key).and_then(Item::as_value) {
        *value.decor_mut() = old.decor().clone();
    }
    table.insert(key, Item::Value(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str =
        "#:schema policy.schema.json\nname = \"balanced\" # ours\n\n[class.standard]\nttft_ms = 4_000\n";

    fn canary(share: f64) -> Wanted {
        Wanted::Canary {
            share: Some(share),
            by: None,
            tenants: None,
            margin: None,
            confidence: None,
            min_requests: None,
        }
    }

    #[track_caller]
    fn check(text: &str, wanted: &Wanted, expected: &str) {
        assert_eq!(with_trial(text, "candidate.toml", wanted).unwrap(), expected);
    }

    #[test]
    fn a_trial_begins_at_the_end_and_ends_without_a_trace() {
        let begun = format!("{POLICY}\n[canary]\npolicy = \"candidate.toml\"\nshare = 0.05\n");
        check(POLICY, &canary(0.05), &begun);
        assert_eq!(without_trial(&begun).unwrap(), POLICY);
        check("", &Wanted::Shadow { sample: None }, "[shadow]\npolicy = \"candidate.toml\"\n");
    }

    #[test]
    fn a_trial_that_is_there_is_changed_in_its_place() {
        let text = "[canary] # carefully\npolicy = \"old.toml\" # the old one\nshare = 0.01\nrollback.margin = 0.03 # points\n\n[limits]\n";
        let wanted = Wanted::Canary {
            share: Some(0.2),
            by: Some("tenant".to_owned()),
            tenants: Some(vec!["acme".to_owned()]),
            margin: Some(0.01),
            confidence: None,
            min_requests: Some(50),
        };
        let expected = "[canary] # carefully\npolicy = \"candidate.toml\" # the old one\nshare = 0.2\nrollback.margin = 0.01 # points\nrollback.min_requests = 50\nby = \"tenant\"\ntenants = [\"acme\"]\n\n[limits]\n";
        check(text, &wanted, expected);
    }

    #[test]
    fn a_shadow_becomes_a_canary_and_nothing_else_moves() {
        let text = "[shadow]\npolicy = \"candidate.toml\"\n\n# the rest\n[limits]\nusd_per_day = 5\n";
        let changed = with_trial(text, "candidate.toml", &canary(0.05)).unwrap();
        assert!(changed.contains("# the rest\n[limits]\nusd_per_day = 5\n"), "{changed}");
        assert!(changed.contains("[canary]\npolicy = \"candidate.toml\"\nshare = 0.05\n"), "{changed}");
        assert!(!changed.contains("shadow"), "{changed}");
    }
}
