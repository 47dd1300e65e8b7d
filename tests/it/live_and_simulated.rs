//! What the simulation says is what the real gateway does: the same requests over HTTP in real time, and in virtual time.

use std::path::Path;

use pointsman::simulation::workload::trace::Trace;
use pointsman::simulation::workload::{Shape, Workload};
use pointsman_tests::live::{Side, Stage};
use pointsman_tests::run::beside_others;

/// Two slow GPUs that these requests keep half busy, and a wafer with a limit. Promises are wide beside what a loaded test
/// machine adds, a few tens of milliseconds. The GPUs do not jitter, so that what is kept differs by half a point from one
/// seed of the simulation to another, not by three: what is left between the sides is theirs.
const PORTFOLIO: &str = r#"
[pool.gpu]
hardware = "h100"
endpoints = ["http://gpu-1", "http://gpu-2"]
[pool.gpu.service]
step_base_ms = 30.0
step_per_sequence_ms = 0.5
prefill_tokens_per_s = 4_000
slots = 12
jitter_sigma = 0.0
[pool.gpu.model.m]
context = 32_768
usd_per_m = { input = 0.2, output = 0.8 }
[pool.wafer]
hardware = "cs3"
endpoints = ["http://wafer-1"]
limits = { requests_per_minute = 90, tokens_per_minute = 200_000, reserves_output = true, slots = 8 }
[pool.wafer.model.m]
context = 32_768
usd_per_m = { input = 0.85, output = 1.2 }
"#;
const POLICY: &str = r#"
name = "wide"
[class.realtime]
ttft_ms = 600
itl_ms = 25
[class.interactive]
ttft_ms = 1500
itl_ms = 80
[class.standard]
ttft_ms = 5000
itl_ms = 150
[class.batch]
deadline_s = 40
"#;

/// Points of attainment of one class in which a run in real time may differ from the mean of simulated ones. Classes have
/// 41 to 146 requests in these eighty seconds, of which one is 0.7 to 2.4 points; two runs beside load differed by 1.3 at
/// most.
const POINTS: f64 = 3.0;
/// Per cent of the cost; 1.9 at most in those runs.
const COST_PERCENT: f64 = 5.0;

#[test]
fn the_real_gateway_keeps_what_the_simulation_says_at_its_price() {
    beside_others(async {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/demo/azure2023-10min.csv");
        let trace = Trace::load(&file).expect("a trace");
        let shape = Shape { load: 0.4, from_s: 120.0, for_s: 32.0, ..Shape::default() };
        let workload = Workload::build(&[trace], &shape);
        let stage = Stage::start(PORTFOLIO, POLICY).await;
        let live = stage.live(&workload).await;
        let simulated: Vec<Side> = (1..=4).map(|seed| stage.simulated(&workload, seed)).collect();
        let mean = Side::mean(&simulated);
        println!("live {live:#?}\nsimulated {mean:#?}");
        for (real, drawn) in live.classes.iter().zip(&mean.classes) {
            let points = (real.kept() - drawn.kept()).abs() * 100.0;
            println!("{} of {}: {points:.2} points", real.name, real.all);
            assert!(points <= POINTS, "{}: {} against {}", real.name, real.kept(), drawn.kept());
        }
        let percent = (live.usd / mean.usd - 1.0).abs() * 100.0;
        println!("cost: {percent:.2} %");
        assert!(percent <= COST_PERCENT, "${} against ${}", live.usd, mean.usd);
    });
}
