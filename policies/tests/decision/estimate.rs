//! What one request would experience on one endpoint, worked out by hand in the round figures of the world.

use pointsman_policies::estimate::{Demand, Estimate};
use pointsman_policies::facts::Facts;
use pointsman_policies::fleet::{EndpointState, PoolFacts};
use pointsman_policies::power::joules;

use crate::world::{GPU, WAFER, busy, close, facts, gpu, wafer};

fn predict(facts: &Facts<'_>, pool: &PoolFacts, endpoint: &EndpointState) -> Estimate {
    let demand = |model| Demand::new(facts, pool, &pool.service, model);
    pool.models.first().map(|model| demand(model).at(facts, endpoint)).unwrap_or_default()
}

#[test]
fn an_idle_gpu_is_its_catalog_figures() {
    let idle = predict(&facts(), &gpu(), &EndpointState::idle(GPU));
    // Half of its own answer counts as held: 1,050 tokens at 100 ns.
    let step_ms = 10.0 + 1.0 + 0.105;
    close(idle.itl_ms, step_ms);
    close(idle.wait_ms, 0.0);
    close(idle.ttft_ms, 5.0 + 100.0 + 20.0 + step_ms);
    close(idle.total_ms, idle.ttft_ms + 100.0 * step_ms);
    close(idle.usd, (1_000.0 * 0.1 + 101.0 * 0.2) / 1e6);
}

#[test]
fn a_loaded_gpu_decodes_slower_for_its_batch_and_their_prompts() {
    let loaded = predict(&facts(), &gpu(), &busy(GPU, 3));
    // Four sequences; 3,300 tokens of the others and 1,050 of its own in memory.
    let step_ms = 10.0 + 4.0 + 0.435;
    // The others: 3,000 prompt tokens take 300 ms of prefill while 100 steps pass.
    close(loaded.itl_ms, step_ms * (1.0 + 300.0 / (100.0 * step_ms)));
    close(loaded.wait_ms, 0.0);
}

#[test]
fn prompts_of_others_count_for_as_much_as_they_were_learned_to_cost() {
    let mut pool = gpu();
    let slower = |pool: &PoolFacts| predict(&facts(), pool, &busy(GPU, 3)).itl_ms - (10.0 + 4.0 + 0.435);
    let whole = slower(&pool);
    pool.service.prefill_weight = 0.25;
    close(slower(&pool), whole / 4.0);
}

#[test]
fn the_pace_of_a_short_answer_scatters_most() {
    let spread_ms = |output_tokens, endpoint| {
        let estimate = predict(&Facts { output_tokens, ..facts() }, &gpu(), &endpoint);
        close(estimate.itl_planned_ms(), estimate.itl_ms + 1.5 * estimate.itl_spread_ms);
        estimate.itl_spread_ms
    };
    // Each of the three is followed by another once in 100 tokens, whose 1,000 prompt tokens stop everybody for 100 ms.
    close(spread_ms(101, busy(GPU, 3)), 100.0 * 3_f64.sqrt() / 100.0);
    close(spread_ms(5, busy(GPU, 3)), 100.0 * 0.12_f64.sqrt() / 4.0);
    close(spread_ms(5, EndpointState::idle(GPU)), 0.0);
    close(predict(&facts(), &wafer(), &busy(WAFER, 3)).itl_spread_ms, 0.0);
}

#[test]
fn prefill_of_others_slows_decode_five_times_at_most() {
    let long_prompts =
        EndpointState { in_flight: 3, context_tokens: 40_000, output_tokens_ahead: 3, ..EndpointState::idle(GPU) };
    close(predict(&facts(), &gpu(), &long_prompts).itl_ms, 5.0 * (10.0 + 4.0 + 4.105));
}

#[test]
fn prefill_ahead_of_this_request_delays_its_first_token() {
    let queued = EndpointState { prefill_tokens: 5_000, ..EndpointState::idle(GPU) };
    let idle = predict(&facts(), &gpu(), &EndpointState::idle(GPU));
    close(predict(&facts(), &gpu(), &queued).ttft_ms, idle.ttft_ms + 500.0);
}

#[test]
fn a_wafer_keeps_its_pace_whoever_else_runs() {
    let idle = predict(&facts(), &wafer(), &EndpointState::idle(WAFER));
    close(idle.itl_ms, 1.0);
    close(idle.ttft_ms, 5.0 + 10.0 + 50.0 + 1.0);
    let loaded = predict(&facts(), &wafer(), &busy(WAFER, 1));
    assert_eq!(loaded.itl_ms, idle.itl_ms);
    assert_eq!(loaded.ttft_ms, idle.ttft_ms);
}

#[test]
fn full_slots_show_as_waiting() {
    // Two slots. Each request ahead has 100 tokens left, 1 ms each; a slot becomes free every 50 ms.
    let waits = |in_flight| predict(&facts(), &wafer(), &busy(WAFER, in_flight)).wait_ms;
    close(waits(1), 0.0);
    close(waits(2), 50.0);
    close(waits(5), 200.0);
    let loaded = predict(&facts(), &wafer(), &busy(WAFER, 5));
    close(loaded.ttft_ms, 66.0 + 200.0);
    close(loaded.total_ms, 66.0 + 200.0 + 100.0);
}

#[test]
fn full_memory_shows_as_waiting() {
    let holding = |context_tokens| EndpointState { context_tokens, ..busy(GPU, 1) };
    // 1,101 tokens of its own; memory holds 50,000.
    close(predict(&facts(), &gpu(), &holding(48_899)).wait_ms, 0.0);
    let over = predict(&facts(), &gpu(), &holding(53_899));
    // A tenth of the memory must become free first: a tenth of the 100 steps that remain.
    close(over.wait_ms, 0.1 * 100.0 * over.itl_ms);
}

#[test]
fn steps_read_no_more_than_the_memory_holds() {
    let over = predict(&facts(), &gpu(), &EndpointState { context_tokens: 53_899, ..busy(GPU, 1) });
    // 50,000 tokens at 100 ns; 53,799 prompt tokens of the others while 100 steps pass.
    let step_ms = 10.0 + 2.0 + 5.0;
    close(over.itl_ms, step_ms * (1.0 + 5_379.9 / (100.0 * step_ms)));
}

#[test]
fn an_answer_of_one_token_ends_with_the_first() {
    let one = predict(&Facts { output_tokens: 1, ..facts() }, &gpu(), &EndpointState::idle(GPU));
    close(one.total_ms, one.ttft_ms);
    let none = predict(&Facts { output_tokens: 0, ..facts() }, &gpu(), &EndpointState::idle(GPU));
    close(none.total_ms, none.ttft_ms);
}

#[test]
fn energy_is_a_share_of_what_the_machine_draws() {
    // 4 J per token, 1 ms each: 4 kW, for 100 tokens and 10 ms of prefill in its own slot. Neighbours change nothing.
    close(joules(&wafer(), 1_000, 100, 0).unwrap_or_default(), (400.0 + 40.0) * 1.25);
    assert_eq!(joules(&wafer(), 1_000, 100, 1), joules(&wafer(), 1_000, 100, 0));
    // 10 kW for 0.1 s of prefill, three quarters of it for a quarter of 100 steps of 14 ms, in the four slots there are.
    let own = joules(&gpu(), 1_000, 100, 3).unwrap_or_default();
    close(own, (1_000.0 + 0.75 * 10_000.0 * 1.4 / 4.0) * 1.5);
    // More neighbours than slots do not run beside it; and figures are those of a machine at work, idle or not.
    assert_eq!(joules(&gpu(), 1_000, 100, 30), Some(own));
    assert_eq!(joules(&gpu(), 1_000, 100, 0), Some(own));
    // Where the machine's own power is not known, a prompt takes what all who decode take, and what steps spare.
    let mut published = gpu();
    (published.service.power_kw, published.service.joules_per_output_token) = (None, Some(26.25));
    close(joules(&published, 1_000, 100, 3).unwrap_or_default(), own);
    published.service.joules_per_output_token = None;
    assert_eq!(joules(&published, 1_000, 100, 0), None);
}

#[test]
fn what_is_cached_takes_no_energy() {
    let idle = EndpointState::idle(GPU);
    let cached = EndpointState { cached_tokens: 400, ..idle };
    let joules = |endpoint| predict(&facts(), &gpu(), endpoint).joules.unwrap_or_default();
    close(joules(&idle) - joules(&cached), 0.04 * 10_000.0 * 1.5);
}

#[test]
fn carbon_needs_energy_and_the_sites_intensity() {
    let idle = EndpointState::idle(WAFER);
    assert_eq!(predict(&facts(), &wafer(), &idle).grams_co2, None);
    let known = PoolFacts { carbon_g_per_kwh: Some(360.0), ..wafer() };
    let estimate = predict(&facts(), &known, &idle);
    close(estimate.joules.unwrap_or_default(), (404.0 + 40.0) * 1.25);
    close(estimate.grams_co2.unwrap_or_default(), 0.0555);
}

#[test]
fn counts_as_large_as_there_are_make_figures_and_no_overflow() {
    let most = Facts { input_tokens: u64::MAX, output_tokens: u64::MAX, ..facts() };
    let full = EndpointState {
        in_flight: u32::MAX,
        prefill_tokens: u64::MAX,
        context_tokens: u64::MAX,
        output_tokens_ahead: u64::MAX,
        ..EndpointState::idle(GPU)
    };
    let estimate = predict(&most, &gpu(), &full);
    assert!(estimate.ttft_ms > 1e18 && estimate.total_ms.is_finite() && estimate.usd > 1e12, "{estimate:?}");
}
