//! What outlives the process, and what is left alone.

use std::path::PathBuf;

use pointsman_policies::language::{Diagnostic, Report, Source};

use super::*;
use crate::config::set::load;
use crate::telemetry::Telemetry;

/// A folder with the three files, and the gateway's memory of them.
struct Place {
    folder: tempfile::TempDir,
}

const PORTFOLIO: &str = "[pool.gpu]\nhardware = \"h100\"\nendpoints = [\"http://127.0.0.1:1\"]\n[pool.gpu.model.m]\n";

impl Place {
    fn new(process: &str) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        std::fs::write(place.path("pointsman.toml"), process).unwrap();
        std::fs::write(place.path("portfolio.toml"), PORTFOLIO).unwrap();
        place.policy("name = \"first\"\n");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn policy(&self, text: &str) {
        std::fs::write(self.path("policy.toml"), text).unwrap();
    }

    fn set(&self) -> ConfigSet {
        load(&self.path("pointsman.toml"), pointsman_backends::portfolio::Secrets::Required).set.unwrap()
    }

    /// A start, and as many further generations as there are names.
    fn run(&self, names: &[&str]) -> Arc<crate::gateway::Gateway> {
        let gateway = crate::gateway::Gateway::new(self.set(), Telemetry::new().0);
        for name in names {
            self.policy(&format!("name = \"{name}\"\n"));
            let before = gateway.snapshot();
            let after = gateway.swap(self.set());
            gateway.history().accepted(&after, &before.texts, &Change::file());
        }
        gateway
    }
}

fn told(history: &History) -> Vec<String> {
    history
        .entries(usize::MAX)
        .iter()
        .map(|entry| format!("{} {} {}", entry.id(), entry.policy, entry.summary))
        .collect()
}

#[test]
fn numbers_continue_across_restarts_and_the_same_files_keep_theirs() {
    let place = Place::new("");
    let gateway = place.run(&["second"]);
    assert_eq!(told(gateway.history()), ["2 second name first → second", "1 first the first that is remembered"]);
    drop(gateway);
    let same = place.run(&[]);
    assert_eq!(same.snapshot().generation, 2);
    assert_eq!(same.history().entries(9).len(), 2, "nothing new");
    drop(same);
    place.policy("name = \"third\"\n");
    let other = place.run(&[]);
    assert_eq!(&*other.snapshot().version, "third@3");
    assert_eq!(other.history().entries(1)[0].source, entry::Origin::Start);
    let texts = other.history().texts(Id::Generation(1)).unwrap();
    assert_eq!((&*texts.policy.text, &*texts.portfolio.text), ("name = \"first\"\n", PORTFOLIO));
}

#[test]
fn only_so_many_are_kept() {
    let place = Place::new("[generations]\nkeep = 3\n");
    let gateway = place.run(&["b", "c", "d", "e"]);
    let numbers = |history: &History| history.entries(9).iter().map(|entry| entry.number).collect::<Vec<_>>();
    assert_eq!(numbers(gateway.history()), [5, 4, 3]);
    assert!(gateway.history().texts(Id::Generation(2)).is_err());
    let mut files: Vec<_> =
        std::fs::read_dir(place.path("state/generations")).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["3.json", "4.json", "5.json"]);
}

#[test]
fn what_cannot_be_read_is_left_alone() {
    let place = Place::new("");
    drop(place.run(&["b"]));
    let strange =
        [("7.json", "{"), ("8.json", "{\"format\": 2}"), ("notes.txt", "mine"), ("1.json", "{\"format\": 1}")];
    for (name, text) in strange {
        std::fs::write(place.path("state/generations").join(name), text).unwrap();
    }
    let gateway = place.run(&["c", "d"]);
    assert_eq!(told(gateway.history()), ["10 d name c → d", "9 c name b → c", "2 b name first → b"]);
    for (name, text) in strange {
        assert_eq!(std::fs::read_to_string(place.path("state/generations").join(name)).unwrap(), text, "{name}");
    }
}

#[test]
fn a_folder_that_cannot_be_used_leaves_memory() {
    let place = Place::new("state = \"policy.toml/x\"\n");
    let gateway = place.run(&["b"]);
    assert!(gateway.history().forgetful().unwrap().contains("policy.toml/x"));
    assert_eq!(told(gateway.history()).len(), 2);
    assert_eq!(&*gateway.history().texts(Id::Generation(1)).unwrap().policy.text, "name = \"first\"\n");
}

#[test]
fn two_gateways_do_not_write_into_one_folder() {
    let place = Place::new("");
    let first = place.run(&[]);
    let second = place.run(&["b"]);
    assert!(second.history().forgetful().unwrap().contains("another gateway"));
    assert_eq!(first.history().forgetful(), None);
    assert!(!place.path("state/generations/2.json").exists());
}

#[test]
fn a_refused_attempt_is_kept_without_what_may_be_a_secret() {
    let place = Place::new("");
    let gateway = place.run(&[]);
    let mut texts = gateway.snapshot().texts.clone();
    texts.portfolio.text = "[pool.a]\napi_key = \"sk-canary\"\n".into();
    let mut report = Report::new(Source::new("portfolio.toml", &*texts.portfolio.text));
    report.push(Diagnostic::error("bad", "a key in the file").at(9..12));
    gateway.history().refused(&gateway.snapshot(), "h", &texts, &[report], &Change::file());
    drop(gateway);
    let again = place.run(&[]);
    assert_eq!(told(again.history())[0], "r1  portfolio.toml:2: a key in the file");
    let kept = std::fs::read_to_string(place.path("state/refused/1.json")).unwrap();
    assert!(!kept.contains("canary") && kept.contains("api_key"), "{kept}");
    let entry = again.history().entry(Id::Refused(1)).unwrap();
    assert_eq!((entry.stayed, entry.diagnostics.len()), (Some(1), 1));
}

#[test]
fn every_change_is_a_line_of_the_audit_log() {
    let place = Place::new("");
    let gateway = place.run(&["b"]);
    let current = gateway.snapshot();
    let caller = Change { who: "ada".to_owned(), ..Change::of_itself(entry::Origin::Api) };
    gateway.history().turned_away(&current, &caller, "stale", "somebody was faster");
    let text = std::fs::read_to_string(place.path("state/audit.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            let numbers = (line["generation_before"].as_u64().unwrap(), line["generation_after"].as_u64().unwrap());
            (text("source"), text("who"), text("result"), numbers, text("code"))
        })
        .collect();
    let line = |source: &str, who: &str, result: &str, numbers, code: &str| {
        (source.to_owned(), who.to_owned(), result.to_owned(), numbers, code.to_owned())
    };
    assert_eq!(
        told,
        [
            line("start", "-", "in-force", (0, 1), ""),
            line("file", "-", "in-force", (1, 2), ""),
            line("api", "ada", "refused", (2, 2), "stale"),
        ]
    );
}
