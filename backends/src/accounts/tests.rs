//! Days in virtual time: requests are decided as the gateway does it, run as long as predicted, are booked when they end,
//! and the accounts move every second. Each controller is also run switched off, to show that it is what does it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

use pointsman_policies::decide::{Request, decide};
use pointsman_policies::facts::{Api, Facts};
use pointsman_policies::fleet::{EndpointState, Fleet};
use pointsman_policies::language::{Source, compile};
use pointsman_policies::learned::Learned;
use pointsman_policies::policy::{ClassId, Policy};
use pointsman_policies::units::Micros;

use super::*;
use crate::portfolio::{Secrets, load};

/// The first of August 2026, midnight UTC: a month of 31 days.
const AUGUST_S: u64 = 1_785_542_400;
const DAY_S: u64 = 86_400;

const CLASSES: &str = "name = \"t\"\n[class.interactive]\nttft_ms = 4000\nitl_ms = 100\n[class.low]\ndeadline_s = 600\n\
    sheddable = true\nshed_order = 2\n[class.lowest]\ndeadline_s = 600\nsheddable = true\nshed_order = 1\n";
const INTERACTIVE: usize = 0;
const LOW: usize = 1;
const LOWEST: usize = 2;

/// A pool of endpoints at a site, with what else its table says.
fn pool(
    name: &str,
    (hardware, site): (&str, &str),
    endpoints: usize,
    (input, output): (f64, f64),
    more: &str,
) -> String {
    let urls: Vec<String> = (0..endpoints).map(|index| format!("\"http://{name}-{index}:1\"")).collect();
    format!(
        "[pool.{name}]\nsite = \"{site}\"\nhardware = \"{hardware}\"\nendpoints = [{}]\n{more}\n\
         [pool.{name}.model.m]\nusd_per_m = {{ input = {input}, output = {output} }}\n",
        urls.join(", ")
    )
}

struct World {
    portfolio: Portfolio,
    policy: Policy,
    accounts: Accounts,
    endpoints: Vec<EndpointState>,
    learned: Learned,
    running: BinaryHeap<Reverse<(u64, usize, u64)>>,
    /// Whether what the accounts say reaches decisions.
    on: bool,
    /// US dollars by pool and hour, of requests that ended then.
    usd: Vec<[f64; 24]>,
    tokens: Vec<f64>,
    refused: [u32; 3],
    served: [u32; 3],
    /// What the first site draws, kilowatts, at every second.
    kw: Vec<f64>,
}

/// Prompt and answer of every request, tokens.
const INPUT: u64 = 2_000;
const OUTPUT: u64 = 500;

impl World {
    fn new(pools: &str, limits: &str) -> World {
        let sites = if pools.contains("[site.") { "" } else { "[site.a]\n" };
        let pools = format!("{sites}{pools}");
        let (portfolio, report) = load(Source::new("p", pools), Path::new("."), Secrets::Optional);
        let portfolio = portfolio.unwrap_or_else(|| panic!("{}", report.render(false)));
        let (policy, report) = compile(Source::new("t", format!("{CLASSES}{limits}")), &portfolio.facts);
        let policy = policy.unwrap_or_else(|| panic!("{}", report.render(false)));
        let endpoints = portfolio.endpoints.iter().map(|endpoint| EndpointState::idle(endpoint.pool)).collect();
        let count = portfolio.facts.len();
        World {
            portfolio,
            policy,
            accounts: Accounts::default(),
            endpoints,
            learned: Learned::default(),
            running: BinaryHeap::new(),
            on: true,
            usd: vec![[0.0; 24]; count],
            tokens: vec![0.0; count],
            refused: [0; 3],
            served: [0; 3],
            kw: Vec::new(),
        }
    }

    fn off(self) -> World {
        World { on: false, ..self }
    }

    /// A day, or less, of requests: so many of each class in each second, by the second of the day.
    fn run(&mut self, seconds: std::ops::Range<u64>, arrivals: impl Fn(u64) -> Vec<usize>) {
        for second in seconds {
            let now = (AUGUST_S + second) * 1_000_000;
            self.end(now);
            let terms = Terms { portfolio: &self.portfolio, policy: &self.policy };
            let priced = self.accounts.tick(Micros(now), &terms, &self.endpoints);
            if self.on {
                (self.learned.prices, self.learned.used) = (priced.prices, priced.used);
            }
            let arrivals = arrivals(second);
            let count = arrivals.len() as u64;
            for (index, class) in (0..).zip(arrivals) {
                let at = now + index * 1_000_000 / count;
                self.end(at);
                self.arrive(at, class);
            }
            let site = &self.portfolio.facts[0].site;
            let pools = self.portfolio.facts.iter().zip(Fleet::new(&self.portfolio.facts, &self.endpoints).loads());
            self.kw.push(pools.filter(|(pool, _)| pool.site == *site).map(|(_, load)| load.kw).sum());
        }
    }

    fn arrive(&mut self, at: u64, class: usize) {
        let plain = Facts::plain(Api::ChatCompletions, "m");
        let facts = Facts { input_tokens: INPUT, output_tokens: OUTPUT, stream: true, ..plain };
        let request = Request::new(&self.policy, &facts, ClassId(class));
        let view = Fleet { learned: &self.learned, ..Fleet::new(&self.portfolio.facts, &self.endpoints) };
        let decision = decide(&request, view, at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let Some(plan) = &decision.plan else { return self.refused[class] += 1 };
        let first = plan.attempts[0].endpoint;
        let estimate = decision.candidate(first).unwrap().verdict.expect("it is planned").estimate;
        let state = &mut self.endpoints[first];
        state.in_flight += 1;
        state.context_tokens += INPUT + OUTPUT;
        state.output_tokens_ahead += OUTPUT;
        self.served[class] += 1;
        self.running.push(Reverse((at + (estimate.total_ms * 1e3) as u64, first, estimate.usd.to_bits())));
    }

    /// Ends what is done by a moment, and books it.
    fn end(&mut self, now: u64) {
        while let Some(Reverse((at, endpoint, usd))) = self.running.peek().copied().filter(|next| next.0.0 <= now) {
            self.running.pop();
            let state = &mut self.endpoints[endpoint];
            state.in_flight -= 1;
            state.context_tokens -= INPUT + OUTPUT;
            state.output_tokens_ahead -= OUTPUT;
            let (pool, usd) = (state.pool, f64::from_bits(usd));
            let terms = Terms { portfolio: &self.portfolio, policy: &self.policy };
            self.accounts.book(Micros(at), &terms, pool, &Entry { tokens: INPUT + OUTPUT, usd, joules: 0.0 });
            self.usd[pool][(at / 3_600_000_000 % 24) as usize] += usd;
            self.tokens[pool] += (INPUT + OUTPUT) as f64;
        }
    }

    fn spent(&self) -> f64 {
        self.usd.iter().flatten().sum()
    }

    fn spent_in(&self, hour: usize) -> f64 {
        self.usd.iter().map(|hours| hours[hour]).sum()
    }

    fn statement(&mut self, second: u64) -> Statement {
        let terms = Terms { portfolio: &self.portfolio, policy: &self.policy };
        self.accounts.tick(Micros((AUGUST_S + second) * 1_000_000), &terms, &self.endpoints).statement
    }
}

/// One request every so many seconds, at night every third of those.
fn diurnal(every: u64) -> impl Fn(u64) -> Vec<usize> {
    move |second| {
        let night = !(6 * 3600..22 * 3600).contains(&second);
        if second.is_multiple_of(if night { 3 * every } else { every }) { vec![INTERACTIVE] } else { Vec::new() }
    }
}

#[test]
fn a_committed_pool_consumes_what_is_owed_and_not_much_more() {
    // 24 cheaper GPUs would get everything by price: 12,600 requests a day, $13.5 at the committed pool's prices.
    let commitment = "commitment = { usd_per_month = 186 }"; // $6 a day
    let pools =
        pool("gpu", ("h100", "a"), 4, (0.1, 0.4), "") + &pool("wafer", ("cs3", "a"), 2, (0.35, 0.75), commitment);
    let mut world = World::new(&pools, "");
    let wafer = world.portfolio.facts.iter().position(|pool| pool.name == "wafer").expect("there is one");
    world.run(0..DAY_S, diurnal(6));
    let used: f64 = world.usd[wafer].iter().sum();
    assert!((used / 6.0 - 1.0).abs() < 0.02, "${used:.3} of $6 owed for the day");
    let morning: f64 = world.usd[wafer][..8].iter().sum();
    assert!((morning / 2.0 - 1.0).abs() < 0.05, "by eight ${morning:.3} of $2, little as there is at night");
    let mut off = World::new(&pools, "").off();
    off.run(0..DAY_S, diurnal(6));
    assert!(off.usd[wafer].iter().sum::<f64>() < 0.1, "without it nothing goes there: {:?}", off.usd[wafer]);
}

#[test]
fn a_budget_is_used_up_evenly_and_sheddable_classes_give_way_in_their_order() {
    let pools = pool("gpu", ("h100", "a"), 4, (0.35, 0.75), "");
    // $92.9 a day are asked for, three quarters of it sheddable.
    let asked = |_| vec![INTERACTIVE, LOW, LOWEST, LOWEST].into_iter().take(4).collect::<Vec<_>>();
    let every_four = move |second: u64| if second.is_multiple_of(4) { asked(second) } else { Vec::new() };
    let mut world = World::new(&pools, "[limits]\nusd_per_day = 60\n");
    world.run(0..DAY_S, every_four);
    assert!(world.spent() <= 60.0 && world.spent() > 58.8, "${:.2} of $60", world.spent());
    for hour in 1..24 {
        let part = world.spent_in(hour) / 2.5;
        assert!((0.85..1.15).contains(&part), "hour {hour}: {:.3} of an even part", part);
    }
    assert!(world.spent_in(0) < 4.0, "the first hour has its head start and no more: {:.2}", world.spent_in(0));
    assert_eq!(world.refused[INTERACTIVE], 0);
    let refused = |world: &World, class: usize| f64::from(world.refused[class]) / (21_600.0 * [1.0, 1.0, 2.0][class]);
    assert!(refused(&world, LOWEST) > 0.6 && refused(&world, LOW) < 0.1, "{:?}", world.refused);
    let mut off = World::new(&pools, "[limits]\nusd_per_day = 60\n").off();
    off.run(0..DAY_S, every_four);
    assert!(off.spent() > 90.0, "${:.2}", off.spent());
}

#[test]
fn who_is_not_sheddable_goes_to_the_cheapest_pool_or_is_refused_as_the_policy_says() {
    let slow = "service = { step_base_ms = 150, step_per_sequence_ms = 0, slots = 512 }";
    let pools = pool("dear", ("cs3", "a"), 2, (0.70, 1.50), "") + &pool("slow", ("cpu", "a"), 4, (0.07, 0.15), slow);
    let asked = |second: u64| if second.is_multiple_of(5) { vec![INTERACTIVE] } else { Vec::new() };
    let mut world = World::new(&pools, "[limits]\nusd_per_hour = 1\n");
    world.run(0..3600, asked);
    assert_eq!(world.refused, [0; 3]);
    assert!(world.spent() < 1.0 && world.tokens.iter().all(|tokens| *tokens > 0.0), "{:?}", world.tokens);
    let mut spent_up = World::new(&pools, "[limits]\nusd_per_hour = 0.05\nover_budget = \"refuse\"\n");
    spent_up.run(0..3600, asked);
    assert!(spent_up.refused[INTERACTIVE] > 100, "{:?}", spent_up.refused);
    assert!(spent_up.spent() <= 0.0501, "{}", spent_up.spent());
}

#[test]
fn a_site_never_draws_more_than_it_may() {
    // Four idle H100 draw 2.08 kW, four at work 5.19; 4.2 kW let two or three work.
    let site = "[site.a]\npower_cap_kw = 4.2\n[site.b]\nround_trip_ms = 40\n";
    let pools = pool("gpu", ("h100", "a"), 4, (0.1, 0.4), "") + &pool("other", ("h100", "b"), 8, (0.2, 0.8), "");
    let burst = |second: u64| if second % 120 < 20 { vec![INTERACTIVE; 8] } else { vec![INTERACTIVE] };
    let mut world = World::new(&format!("{site}{pools}"), "");
    world.run(0..7_200, burst);
    let peak = world.kw.windows(10).map(|ten| ten.iter().sum::<f64>() / 10.0).fold(0.0, f64::max);
    let most = world.kw.iter().copied().fold(0.0, f64::max);
    assert!(most <= 4.2 && peak > 3.4, "at most {most} kW at any second, {peak} kW over ten of them");
    assert_eq!(world.refused, [0; 3], "the other site serves the rest");
    let mut off = World::new(&format!("[site.a]\n[site.b]\nround_trip_ms = 40\n{pools}"), "");
    off.run(0..7_200, burst);
    assert!(off.kw.iter().copied().fold(0.0, f64::max) > 5.0);
}

#[test]
fn scarce_power_sends_work_elsewhere_before_the_cap_does() {
    let site = "[site.a]\npower_cap_kw = 13\n[site.b]\nround_trip_ms = 40\n";
    let pools = pool("gpu", ("h100", "a"), 12, (0.1, 0.4), "") + &pool("other", ("h100", "b"), 12, (0.12, 0.48), "");
    let steady = |_| vec![INTERACTIVE; 3];
    let mut world = World::new(&format!("{site}{pools}"), "");
    world.run(0..600, steady);
    let near = |world: &World| world.kw.iter().filter(|kw| **kw > 12.2).count();
    let mut off = World::new(&format!("{site}{pools}"), "").off();
    off.run(0..600, steady);
    assert!(near(&world) < near(&off) / 2, "{} s near the cap, {} without a price", near(&world), near(&off));
}

#[test]
fn a_vendor_keeps_to_its_share() {
    let vendor = |name: &str| format!("vendor = \"{name}\"");
    let pools = pool("cheap", ("h100", "a"), 4, (0.1, 0.4), &vendor("acme"))
        + &pool("dear", ("h100", "a"), 4, (0.2, 0.8), &vendor("umbrella"));
    let asked = |second: u64| if second.is_multiple_of(4) { vec![INTERACTIVE] } else { Vec::new() };
    let mut world = World::new(&pools, "[limits]\nvendor_share = { acme = 0.6 }\n");
    world.run(0..8 * 3600, asked);
    let cheap = world.portfolio.facts.iter().position(|pool| pool.name == "cheap").expect("there is one");
    let share = world.tokens[cheap] / world.tokens.iter().sum::<f64>();
    assert!((share - 0.6).abs() < 0.01, "{share}");
    let line = world.statement(8 * 3600).vendors[0].clone();
    assert!((0.58..=0.601).contains(&line.share), "{line:?}");
    let mut off = World::new(&pools, "");
    off.run(0..3600, asked);
    assert!(off.tokens[cheap] / off.tokens.iter().sum::<f64>() > 0.95);
}

#[test]
fn a_restart_forgets_nothing_that_was_spent() {
    let pools = pool("gpu", ("h100", "a"), 4, (0.35, 0.75), "commitment = { tokens_per_month = 1e12 }")
        + &pool("other", ("h100", "a"), 1, (9.0, 9.0), "");
    let mut world = World::new(&pools, "[limits]\nusd_per_day = 60\nusd_per_month = 900\n");
    world.run(0..3600, |second| if second.is_multiple_of(4) { vec![INTERACTIVE] } else { Vec::new() });
    let saved = serde_json::to_string(&world.accounts.at_rest()).expect("text");
    let before = world.statement(3600);
    let loaded: Accounts = serde_json::from_str(&saved).expect("accounts");
    world.accounts = Accounts::loaded(loaded).expect("this version");
    let after = world.statement(3600);
    assert_eq!(after.budgets.len(), 2);
    for (before, after) in before.budgets.iter().zip(&after.budgets) {
        assert!((before.spent_usd - after.spent_usd).abs() < 1e-9, "{before:?} {after:?}");
    }
    assert_eq!(before.pools[0].tokens_this_month, after.pools[0].tokens_this_month);
    // A day later the day's budget is whole again, the month's is not.
    let later = world.statement(DAY_S + 60);
    assert_eq!(
        (later.budgets[0].spent_usd, later.budgets[1].spent_usd > 0.0),
        (0.0, before.budgets[1].spent_usd > 0.0)
    );
}

#[test]
fn what_is_owed_anyway_counts_towards_no_budget_and_a_late_start_answers_for_the_rest_only() {
    let pools = pool("own", ("h100", "a"), 1, (1.0, 1.0), "commitment = { usd_per_month = 310 }");
    let mut world = World::new(&pools, "[limits]\nusd_per_month = 310\n");
    let noon_of_the_sixteenth = 15 * DAY_S + DAY_S / 2;
    let book = |world: &mut World, second: u64, usd: f64| {
        let terms = Terms { portfolio: &world.portfolio, policy: &world.policy };
        let now = Micros((AUGUST_S + second) * 1_000_000);
        world.accounts.book(now, &terms, 0, &Entry { tokens: 1_000, usd, joules: 0.0 });
    };
    let first = world.statement(noon_of_the_sixteenth);
    let owed = first.pools[0].commitment.expect("it is owed");
    assert!((owed.owed - 155.0).abs() < 0.1 && (first.budgets[0].usd - 155.0).abs() < 0.1, "{first:?}");
    book(&mut world, noon_of_the_sixteenth, 150.0);
    assert_eq!(world.statement(noon_of_the_sixteenth + 1).budgets[0].spent_usd, 0.0);
    book(&mut world, noon_of_the_sixteenth + 2, 20.0);
    book(&mut world, noon_of_the_sixteenth + 2, 20.0);
    assert_eq!(world.statement(noon_of_the_sixteenth + 3).budgets[0].spent_usd, 20.0);
    let september = world.statement(31 * DAY_S + 10);
    assert_eq!(september.pools[0].commitment.expect("it is owed").owed, 310.0);
    assert_eq!((september.budgets[0].usd, september.budgets[0].spent_usd), (310.0, 0.0));
}
