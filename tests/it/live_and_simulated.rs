//! What the simulation says is what the real gateway does: the same requests over HTTP in real time, and in virtual time.

use std::path::Path;
use std::time::Duration;

use pointsman::simulation::workload::trace::Trace;
use pointsman::simulation::workload::{Shape, Workload};
use pointsman_tests::live::pulse::Pulse;
use pointsman_tests::live::told::Told;
use pointsman_tests::live::{Side, Stage};
use pointsman_tests::run::beside_others;

/// Two slow GPUs that these requests keep half busy, and a wafer with a limit that is never quite spent: where it was, in a
/// run beside load that gave the wafer seven requests more, a fifth of realtime had to wait. Promises are wide beside what a
/// loaded test machine adds, a few tens of milliseconds. The GPUs do not jitter, so that what is kept differs by half a point
/// from one seed of the simulation to another, not by three: what is left between the sides is theirs.
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
limits = { requests_per_minute = 120, tokens_per_minute = 200_000, reserves_output = true, slots = 8 }
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
/// 41 to 146 requests in these eighty seconds, of which one is 0.7 to 2.4 points; three runs beside others' builds differed
/// by 2.6 at most.
const POINTS: f64 = 3.0;
/// Per cent of the cost; 4.7 at most in those runs.
const COST_PERCENT: f64 = 5.0;
/// What a busy host adds moves work from machine to machine, so a run that differs is made again, so often; a gateway that
/// does otherwise than the simulation differs in each. Requests that were open while the host stood still count on neither
/// side; where fewer than half of a class are left, the run says nothing.
const RUNS: usize = 3;
/// Seeds of the simulation.
const SEEDS: u64 = 4;

#[test]
fn the_real_gateway_keeps_what_the_simulation_says_at_its_price() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/demo/azure2023-10min.csv");
    let trace = Trace::load(&file).expect("a trace");
    let shape = Shape { load: 0.4, from_s: 120.0, for_s: 32.0, ..Shape::default() };
    let workload = Workload::build(&[trace], &shape);
    let mut differences = Vec::new();
    while differences.len() < RUNS {
        let mut verdict = Ok(());
        beside_others(async { verdict = judge(&workload).await });
        match verdict {
            Ok(()) => return,
            Err(difference) => differences.push(difference),
        }
    }
    panic!("no run of {RUNS} agreed: {differences:#?}");
}

/// One run against the simulation of the same requests: where they differ.
async fn judge(workload: &Workload) -> Result<(), String> {
    let stage = Stage::start(PORTFOLIO, POLICY).await;
    let pulse = Pulse::start();
    let (live, told) = stage.live_told(workload).await;
    let (stalls, span) = pulse.stop();
    let simulated: Vec<(Side, Vec<Told>)> = (1..=SEEDS).map(|seed| stage.simulated_told(workload, seed)).collect();
    let after_ms = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
    let undisturbed = |index: usize| {
        let (at, lost) = (workload.requests[index].at.as_ms(), span.as_secs_f64() * 1e3);
        let took = told[index].observed.map_or(lost - at, |observed| observed.total_ms);
        !stalls.touch(after_ms(at), after_ms(at + took))
    };
    let all = stage.kept(workload, &told, |_| true);
    let real = stage.kept(workload, &told, undisturbed);
    let drawn: Vec<_> = simulated.iter().map(|(_, told)| stage.kept(workload, told, undisturbed)).collect();
    println!(
        "stood still for {:?} of {span:?}: {stalls:?}\nlive {live:#?}\nkept of those that count {real:?}",
        stalls.total()
    );
    let share = |(good, made): (u64, u64)| good as f64 / made.max(1) as f64;
    for (class, name) in workload.classes.iter().enumerate() {
        if real[class].1 * 2 < all[class].1 {
            return Err(format!("the host stood still for {:?}, so that too few are left", stalls.total()));
        }
        let mean = drawn.iter().map(|side| share(side[class])).sum::<f64>() / SEEDS as f64;
        let points = (share(real[class]) - mean).abs() * 100.0;
        println!("{name}: {points:.2} points");
        if points > POINTS {
            return Err(format!("{name}: {:.4} kept, {mean:.4} simulated", share(real[class])));
        }
    }
    let usd = simulated.iter().map(|(side, _)| side.usd).sum::<f64>() / SEEDS as f64;
    let percent = (live.usd / usd - 1.0).abs() * 100.0;
    println!("cost: {percent:.2} %");
    if percent > COST_PERCENT {
        return Err(format!("${} paid, ${usd} simulated", live.usd));
    }
    Ok(())
}
