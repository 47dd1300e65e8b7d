//! Limits in the whole world: engines that draw power, a network, requests that are held.

use pointsman_backends::fleet::Fleet;
use pointsman_backends::portfolio::Secrets;
use pointsman_policies::facts::Api;
use pointsman_policies::plan::MAX_ATTEMPTS;
use pointsman_policies::policy::Slo;
use tempfile::TempDir;

use super::*;
use crate::config::set;
use crate::simulation::conditions::Conditions;
use crate::simulation::report::Report;
use crate::simulation::workload::trace::{Row, Trace};
use crate::simulation::workload::{Shape, Workload};
use crate::simulation::world::{Setup, run};

const POLICY: &str = "[class.interactive]\nttft_ms = 4000\nitl_ms = 100\n";

/// Four H100 at a site, a rented API elsewhere that takes the rest.
fn portfolio(site: &str) -> String {
    format!(
        "[site.valley]\n{site}\n[pool.gpu]\nsite = \"valley\"\nhardware = \"h100\"\n\
         endpoints = [\"http://a:1\", \"http://b:1\", \"http://c:1\", \"http://d:1\"]\n\
         [pool.gpu.model.m]\nusd_per_m = {{ input = 0.1, output = 0.4 }}\n\
         [pool.cloud]\nhardware = \"cloud-api\"\nendpoints = [\"http://e:1\"]\n\
         [pool.cloud.model.m]\nusd_per_m = {{ input = 1.0, output = 4.0 }}\n"
    )
}

/// Five minutes, eight requests every two seconds, all at once.
fn bursts() -> Workload {
    let rows = (0..150_u32)
        .flat_map(|burst| (0..8).map(move |_| Row::plain(Micros::from_secs(u64::from(burst) * 2), 1500, 300)));
    let mut workload = Workload::build(&[Trace::of("t", rows.collect())], &Shape::default());
    for request in &mut workload.requests {
        (request.class, request.declared, request.stream) = (1, 1, true);
    }
    workload
}

fn snapshot(folder: &TempDir, portfolio: &str) -> Arc<Snapshot> {
    for (name, text) in [("pointsman.toml", ""), ("portfolio.toml", portfolio), ("policy.toml", POLICY)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let loaded = set::load(&folder.path().join("pointsman.toml"), Secrets::Required);
    let Some(set) = loaded.set else { panic!("{}", set::render(&loaded.reports, false)) };
    Arc::new(Snapshot::build(1, set, None, &Fleet::default()))
}

fn played(site: &str) -> Report {
    let folder = TempDir::new().unwrap();
    let snapshot = snapshot(&folder, &portfolio(site));
    let setup = Setup { portfolio: &snapshot.portfolio, policy: &snapshot.policy, model: "m" };
    let mut routers: Vec<Box<dyn Router>> = vec![Box::new(Pointsman::new(Arc::clone(&snapshot), 7))];
    run(&setup, &bursts(), &Conditions::default(), &mut routers)
}

#[test]
fn a_site_stays_below_its_cap_over_any_ten_seconds_and_nobody_is_refused() {
    let capped = played("power_cap_kw = 4.2");
    let free = played("");
    assert!(capped.peak_kw <= 4.2, "{} kW of 4.2", capped.peak_kw);
    assert!(free.peak_kw > 4.6, "without the cap {} kW", free.peak_kw);
    assert_eq!((capped.classes[1].shed, capped.kept().all), (0, 1200), "the rest goes to the cloud");
    assert!(capped.pools.iter().all(|pool| pool.sent > 0), "{:?}", capped.pools);
}

/// An API that asks for patience whenever it is asked.
const IMPATIENT: &str = "[pool.api]\nhardware = \"cloud-api\"\nendpoints = [\"http://a:1\"]\nwindow = { requests = 8 }\n\
                         [pool.api.model.m]\nusd_per_m = { input = 1.0, output = 1.0 }\n";

/// As the pipeline does: a machine that only asks for patience is asked again as long as the promise allows, but not for
/// ever, and whoever has waited is known to have.
#[test]
fn who_is_asked_for_patience_comes_back_eight_times_and_has_waited() {
    let folder = TempDir::new().unwrap();
    let snapshot = snapshot(&folder, IMPATIENT);
    let mut gateway = Pointsman::new(Arc::clone(&snapshot), 7);
    let seen = Seen { pools: &snapshot.portfolio.facts, endpoints: &[] };
    let facts = Facts { input_tokens: 100, output_tokens: 10, stream: true, ..Facts::plain(Api::ChatCompletions, "m") };
    let arrival = Arrival {
        id: 1,
        facts,
        class: ClassId(0),
        slo: Slo::default(),
        priority: 0,
        prefix: &[],
        predicted_output_tokens: 10,
        true_output_tokens: 10,
    };
    let came = Micros::from_secs(100);
    let (mut now, mut acts, mut sent) = (came, Vec::new(), Vec::new());
    gateway.arrive(now, &arrival, &seen, &mut acts);
    loop {
        let done = std::mem::take(&mut acts);
        if done.iter().any(|act| matches!(act, Act::Refuse { .. })) {
            break;
        }
        if let [Act::Send { request, endpoint }] = done[..] {
            let waited_ms = gateway.made(request).unwrap().facts.waited_ms;
            assert!((waited_ms - (now - came).as_ms()).abs() < 1.0, "attempt {}: {waited_ms} ms", sent.len());
            sent.push(now);
            let away = TurnedAway { request, endpoint, retry_after_ms: Some(100.0) };
            gateway.turned_away(now, &away, &seen, &mut acts);
        } else {
            now = gateway.next_wake().expect("it is held").max(now + Micros(1));
            gateway.wake(now, &seen, &mut acts);
        }
    }
    assert_eq!(sent.len(), MAX_ATTEMPTS, "{sent:?}");
}
