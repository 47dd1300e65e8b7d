//! How well an endpoint serves the objective: strain against the promise, and one figure to rank by.

use pointsman_policies::decide::Scored;
use pointsman_policies::estimate::Estimate;
use pointsman_policies::facts::{Api, Facts};
use pointsman_policies::fleet::HardwareKind;
use pointsman_policies::learned::Margin;
use pointsman_policies::policy::{Objective, Slo, Weights};
use pointsman_policies::score::{Best, Promise, score, strain};

use crate::world::{NO_PROMISE, close};

const DEAR: Estimate = Estimate {
    cached_tokens: 0,
    saved_usd: 0.0,
    wait_ms: 0.0,
    ttft_ms: 100.0,
    itl_ms: 1.0,
    itl_spread_ms: 0.0,
    total_ms: 200.0,
    usd: 0.004,
    joules: Some(300.0),
    grams_co2: None,
};
const CHEAP: Estimate =
    Estimate { ttft_ms: 200.0, itl_ms: 10.0, total_ms: 1_200.0, usd: 0.001, joules: Some(600.0), ..DEAR };
const UNMEASURED: Estimate = Estimate { joules: None, ..DEAR };

fn promise(kind: HardwareKind, slo: Slo) -> Promise {
    Promise { slo, margin: Margin::prior(kind) }
}

#[track_caller]
fn strains(kind: HardwareKind, slo: Slo, output_tokens: u64, expected: f64) {
    let streamed = Facts { stream: true, output_tokens, ..Facts::plain(Api::ChatCompletions, "m") };
    close(strain(&promise(kind, slo), &CHEAP, &streamed), expected);
}

#[test]
fn strain_is_the_worst_part_of_the_promise() {
    let ttft = Slo { ttft_ms: Some(1_000.0), ..NO_PROMISE };
    let itl = Slo { itl_ms: Some(10.0), ..NO_PROMISE };
    let deadline = Slo { deadline_ms: Some(4_000.0), ..NO_PROMISE };
    // A machine that batches is trusted with 80 % of a first token and 70 % of a pace, one that keeps its pace with 85 %.
    strains(HardwareKind::Gpu, ttft, 100, 200.0 / 800.0);
    strains(HardwareKind::Cpu, ttft, 100, 200.0 / 800.0);
    for flat in [HardwareKind::Wafer, HardwareKind::Lpu, HardwareKind::Cloud] {
        strains(flat, ttft, 100, 200.0 / 850.0);
    }
    strains(HardwareKind::Gpu, itl, 100, 10.0 / 7.0);
    strains(HardwareKind::Gpu, deadline, 100, 1_200.0 / 3_200.0);
    strains(HardwareKind::Gpu, Slo { itl_ms: Some(10.0), deadline_ms: Some(100.0), ..ttft }, 100, 1_200.0 / 80.0);
    strains(HardwareKind::Gpu, NO_PROMISE, 100, 0.0);
}

#[test]
fn an_answer_of_one_token_has_no_pace() {
    let itl = Slo { itl_ms: Some(1.0), ..NO_PROMISE };
    strains(HardwareKind::Gpu, itl, 2, 10.0 / 0.7);
    strains(HardwareKind::Gpu, itl, 1, 0.0);
    strains(HardwareKind::Gpu, itl, 0, 0.0);
}

#[test]
fn a_whole_answer_is_held_to_first_token_and_pace_together() {
    let slo = Slo { ttft_ms: Some(100.0), itl_ms: Some(20.0), ..NO_PROMISE };
    let whole = Facts { output_tokens: 101, ..Facts::plain(Api::ChatCompletions, "m") };
    // 1,200 ms against four fifths of 100 + 100 x 20 ms.
    close(strain(&promise(HardwareKind::Gpu, slo), &CHEAP, &whole), 1_200.0 / 1_680.0);
}

fn scored(estimate: Estimate, strain: f64) -> Scored {
    Scored { estimate, strain, effective_usd: estimate.usd, lost: false, room: true, score: 0.0, home: false }
}

/// Scores of both estimates where they are all there is.
fn scores(objective: Objective, one: Estimate, other: Estimate) -> (f64, f64) {
    let best = Best::of([&one, &other].into_iter());
    (score(objective, &scored(one, 0.5), &best), score(objective, &scored(other, 0.5), &best))
}

#[test]
fn each_objective_reads_its_own_figure() {
    assert_eq!(scores(Objective::Cheapest, DEAR, CHEAP), (0.004, 0.001));
    assert_eq!(scores(Objective::CheapestThatMeetsSlo, DEAR, CHEAP), (0.004, 0.001));
    assert_eq!(scores(Objective::Fastest, DEAR, CHEAP), (200.0, 1_200.0));
    assert_eq!(scores(Objective::Greenest, DEAR, CHEAP), (300.0, 600.0));
}

#[test]
fn where_the_promise_is_missed_the_miss_is_the_score() {
    let best = Best::of([&CHEAP].into_iter());
    close(score(Objective::CheapestThatMeetsSlo, &scored(CHEAP, 1.0), &best), 0.001);
    close(score(Objective::CheapestThatMeetsSlo, &scored(CHEAP, 1.5), &best), 1.5);
    close(score(Objective::Cheapest, &scored(CHEAP, 1.5), &best), 0.001);
}

#[test]
fn the_greenest_is_by_carbon_where_every_site_tells_it() {
    let clean = Estimate { grams_co2: Some(0.01), ..CHEAP };
    let dirty = Estimate { grams_co2: Some(0.09), ..DEAR };
    assert_eq!(scores(Objective::Greenest, clean, dirty), (0.01, 0.09));
    // Grams and joules do not compare: where one site is silent, energy decides for all.
    assert_eq!(scores(Objective::Greenest, clean, DEAR), (600.0, 300.0));
    // Who has no energy figure is last, and says nothing about the others' sites.
    assert_eq!(scores(Objective::Greenest, clean, UNMEASURED), (0.01, f64::MAX));
}

#[test]
fn weights_compare_each_term_to_the_best() {
    let weights = |cost, ttft, itl, energy| Objective::Weights(Weights { cost, ttft, itl, energy });
    assert_eq!(scores(weights(1.0, 0.0, 0.0, 0.0), DEAR, CHEAP), (4.0, 1.0));
    assert_eq!(scores(weights(0.0, 1.0, 0.0, 0.0), DEAR, CHEAP), (1.0, 2.0));
    assert_eq!(scores(weights(0.0, 0.0, 1.0, 0.0), DEAR, CHEAP), (1.0, 10.0));
    assert_eq!(scores(weights(0.0, 0.0, 0.0, 1.0), DEAR, CHEAP), (1.0, 2.0));
    assert_eq!(scores(weights(1.0, 2.0, 0.5, 3.0), DEAR, CHEAP), (4.0 + 2.0 + 0.5 + 3.0, 1.0 + 4.0 + 5.0 + 6.0));
}

#[test]
fn unknown_energy_weighs_only_where_energy_does() {
    let energy = Objective::Weights(Weights { cost: 1.0, energy: 1.0, ..Weights::default() });
    let (unmeasured, cheap) = scores(energy, UNMEASURED, CHEAP);
    assert!(unmeasured > 1e300, "{unmeasured}");
    close(cheap, 2.0);
    let cost = Objective::Weights(Weights { cost: 1.0, ..Weights::default() });
    // Beside a frugal machine the unknown is infinitely worse, and no weight of it must still be none.
    let frugal = Estimate { joules: Some(0.5), ..CHEAP };
    assert_eq!(scores(cost, UNMEASURED, frugal), (4.0, 1.0));
}
