//! What is learned reaches decisions, those of a candidate included.

use std::sync::Arc;

use pointsman_backends::fleet::Fleet;
use pointsman_backends::portfolio::Secrets;
use pointsman_policies::facts::{Api, Facts};
use pointsman_policies::fleet::HardwareKind;
use pointsman_policies::learned::Margin;
use pointsman_policies::trial::Arm;

use super::*;
use crate::config::set;
use crate::flow::{Ask, Flow};
use crate::trial::trials::Trials;

const POLICY: &str = "name = \"p\"\n[class.voice]\nttft_ms = 300\n[class.chat]\nttft_ms = 1000\n\
                      [[route]]\nname = \"all\"\n[canary]\npolicy = \"candidate.toml\"\nshare = 0.5\n";
/// The same classes the other way round, behind one of its own.
const CANDIDATE: &str = "name = \"c\"\n[class.agent]\nttft_ms = 5000\n[class.chat]\nttft_ms = 1000\n\
                         [class.voice]\nttft_ms = 300\n[[route]]\nname = \"all\"\n";
const PORTFOLIO: &str = "[pool.a]\nhardware = \"h100\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
                         [pool.a.model.m]\nusd_per_m = { input = 1.0, output = 1.0 }\n";

#[test]
fn a_candidate_reads_what_was_learned_of_its_classes_whatever_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let texts = [("pointsman", ""), ("portfolio", PORTFOLIO), ("policy", POLICY), ("candidate", CANDIDATE)];
    for (name, text) in texts {
        std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
    }
    let loaded = set::load(&folder.path().join("pointsman.toml"), Secrets::Required);
    let Some(set) = loaded.set else { panic!("{}", set::render(&loaded.reports, false)) };
    let trial = Trials::new(folder.path()).adopt(1, &set);
    assert!(trial.is_some());
    let snapshot = Arc::new(Snapshot::build(1, set, trial, &Fleet::default()));
    let learning = Learning::default();
    learning.adopt(&snapshot);
    let learned = snapshot.learned();
    let classes: Vec<_> = learned.margins.keys().map(String::as_str).collect();
    assert!(["agent", "chat", "voice"].iter().all(|class| classes.contains(class)), "{classes:?}");
    assert!(learning.learner().class("agent").is_some(), "what only the candidate has is learned as well");

    let wary = HardwareKind::ALL.map(|_| Margin { ttft: 0.3, itl: 0.3 });
    snapshot.learn(|learned| _ = learned.margins.insert("voice".to_owned(), wary));
    let facts = Facts { input_tokens: 100, output_tokens: 10, stream: true, ..Facts::plain(Api::ChatCompletions, "m") };
    let strain = |arm: Arm, class: &str| {
        let class = snapshot.deciding(arm).policy.class_by_name(class).unwrap();
        let made = Flow::<()>::default().decide(
            &Ask { snapshot: &snapshot, arm, facts: &facts, prefix: &Arc::default(), class, draw: 0 },
            Micros(1),
        );
        made.planned(0).unwrap().candidate.verdict.unwrap().strain
    };
    for class in ["voice", "chat"] {
        assert_eq!(strain(Arm::Candidate, class), strain(Arm::Incumbent, class), "{class}");
    }
}
