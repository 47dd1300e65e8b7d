//! Decisions in virtual time: the gateway's own decision, its own account of what is in flight and of leases, its own
//! writer of logs; but no machine, no network and no clock. Answers take as long as was predicted. So an hour of traffic
//! takes seconds, and is the same every time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pointsman::config::set;
use pointsman::decision_log::writer::{LogFiles, Writer};
use pointsman::record::{AttemptRecord, DecisionRecord, Outcome, Planned, Record, TraceContext};
use pointsman::snapshot::Snapshot;
use pointsman_backends::dialects::Usage;
use pointsman_backends::fleet::{Dispatched, Fleet, Seen, Work};
use pointsman_backends::portfolio::Secrets;
use pointsman_policies::classify::classify;
use pointsman_policies::decide::{Request, decide, slo};
use pointsman_policies::facts::{Api, OwnedFacts};
use pointsman_policies::fleet::EndpointState;
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::plan::Plan;
use pointsman_policies::trial::Arm;
use pointsman_policies::units::Micros;

use crate::files::Files;

/// Ten minutes of the Azure 2023 traces, as the demo plays them.
const TRACE: &str = include_str!("../../gateway/demo/azure2023-10min.csv");
/// How long the slice lasts.
const SLICE: Duration = Duration::from_secs(600);
/// Where virtual time begins, seconds since 1970.
const BEGINNING_S: u64 = 1_764_000_000;
/// Records written at a time.
const BATCH: usize = 512;

/// A generation of files, on a fleet.
pub fn snapshot(files: &Files, generation: u64, fleet: &Fleet) -> Arc<Snapshot> {
    let mut loaded = set::load(&files.process_file(), Secrets::Required);
    let Some(set) = loaded.set.take() else { panic!("{}", loaded.render(false)) };
    Arc::new(Snapshot::build(generation, set, None, fleet))
}

/// The demo's portfolio, with addresses where nobody listens.
pub fn demo_portfolio() -> String {
    let mut text = include_str!("../../gateway/demo/portfolio.toml").to_owned();
    for (port, pool) in ["gpu-a", "wafer", "cpu"].into_iter().enumerate() {
        text = text.replace(&format!("{{{pool}}}"), &format!("http://127.0.0.1:{}", 9001 + port));
    }
    text.replace("{gpu-b}", "http://127.0.0.1:9004\", \"http://127.0.0.1:9005")
}

/// Decides as the pipeline does and returns the record, open.
pub fn decided(snapshot: &Arc<Snapshot>, facts: OwnedFacts, endpoints: Vec<EndpointState>, draw: u64) -> Record {
    let borrowed = facts.facts();
    let class = classify(&snapshot.policy, &borrowed).expect("a class that is defined").class;
    let request = Request::new(&snapshot.policy, &borrowed, class);
    let fleet = pointsman_policies::fleet::Fleet::new(&snapshot.portfolio.facts, &endpoints);
    let decision = decide(&request, fleet, draw);
    let slo = slo(snapshot.policy.classes.get(class.0), &borrowed);
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(facts.unix_s);
    let planned = |endpoint| Some(Planned { candidate: *decision.candidate(endpoint)?, state: endpoints[endpoint] });
    let planned = decision.plan.iter().flat_map(Plan::named).filter_map(planned).collect();
    let made = DecisionRecord {
        snapshot: Arc::clone(snapshot),
        arm: Arm::Incumbent,
        mechanisms: Mechanisms::default(),
        prefix: Arc::default(),
        class,
        endpoints: Seen::of(endpoints),
        learned: Arc::default(),
        waiting: Vec::new(),
        draw,
        route: decision.route,
        planned,
        plan: decision.plan,
        facts,
    };
    Record { decision: Some(Arc::new(made)), slo, ..Record::blank(Instant::now(), wall) }
}

/// A request on its way.
struct Running {
    record: Record,
    dispatched: Dispatched,
    tokens: Usage,
}

/// What happens next; the earlier first, then the one that was planned first.
type Event = Reverse<(Micros, u64, usize, bool)>;

/// Plays the trace until so many decisions are in a log. `rate` is a multiple of the trace's own; half-way the second
/// of two generations takes over.
pub fn record(files: LogFiles, generations: [&Arc<Snapshot>; 2], rate: f64, decisions: u64) {
    let mut writer = Writer::open(files).expect("a log");
    let mut settled: Vec<Arc<Record>> = Vec::new();
    let mut write = |record: Option<Record>| {
        settled.extend(record.map(Arc::new));
        if settled.len() >= BATCH {
            flush(&mut writer, &mut settled);
        }
    };
    let mut random = draws(7);
    let mut running: Vec<Option<Running>> = Vec::new();
    let mut events: BinaryHeap<Event> = BinaryHeap::new();
    let lines: Vec<(f64, u64, u64)> = TRACE.lines().filter_map(line).collect();
    for number in 0..decisions {
        let slice = number / lines.len() as u64;
        let (at_ms, input_tokens, output_tokens) = lines[(number % lines.len() as u64) as usize];
        let now = Micros::from_ms((at_ms + SLICE.as_secs_f64() * 1e3 * slice as f64) / rate);
        while let Some(event) = events.peek().copied().filter(|Reverse((at, ..))| *at <= now) {
            events.pop();
            write(happen(event, &mut running));
        }
        let snapshot = generations[usize::from(number * 2 >= decisions)];
        let facts = facts(now, input_tokens, output_tokens, &mut random);
        let endpoints = snapshot.targets().map(|target| target.live.state(target.endpoint.pool, now)).collect();
        let mut record = decided(snapshot, facts, endpoints, random());
        record.request_id = format!("req_{:032x}", u128::from(random()) << 64 | u128::from(random()));
        record.trace = TraceContext { trace_id: u128::from(random()) + 1, span_id: 1, parent_id: None, sampled: true };
        match dispatch(snapshot, record, now) {
            Ok((request, first_token, end)) => {
                let index = running.len();
                running.push(Some(request));
                events.push(Reverse((first_token, number, index, false)));
                events.push(Reverse((end, number, index, true)));
            }
            Err(refused) => write(Some(*refused)),
        }
    }
    while let Some(event) = events.pop() {
        write(happen(event, &mut running));
    }
    flush(&mut writer, &mut settled);
}

fn flush(writer: &mut Writer, settled: &mut Vec<Arc<Record>>) {
    let written = writer.write(settled);
    assert_eq!((written.lost, written.problem), (0, None));
    settled.clear();
}

/// Sends it to its first choice, or refuses it. Tells when the first token comes and when the last.
fn dispatch(snapshot: &Snapshot, mut record: Record, now: Micros) -> Result<(Running, Micros, Micros), Box<Record>> {
    let made = Arc::clone(record.decision.as_ref().expect("it was decided"));
    let chosen = made.plan.as_ref().map(|plan| plan.attempts[0].endpoint);
    let work = Work {
        input_tokens: made.facts.input_tokens,
        output_tokens: made.facts.output_tokens,
        max_output_tokens: made.facts.max_output_tokens.unwrap_or(made.facts.output_tokens),
        ..Work::default()
    };
    let target = chosen.and_then(|index| snapshot.target(index));
    let Some((target, dispatched)) = target.and_then(|target| Some((target, target.live.begin(now, work).ok()?)))
    else {
        record.status = 503;
        record.outcome = Outcome::Refused("unavailable");
        return Err(Box::new(record));
    };
    let estimate = made
        .planned(chosen.expect("it was dispatched"))
        .expect("it was planned")
        .candidate
        .verdict
        .expect("it was chosen")
        .estimate;
    let (first_token, end) = (now + Micros::from_ms(estimate.ttft_ms), now + Micros::from_ms(estimate.total_ms));
    record.stream = made.facts.stream;
    record.first_byte_at = Some(Duration::from_micros((first_token - now).0));
    record.last_byte_at = Some(Duration::from_micros((end - now).0));
    record.ended_at = Duration::from_micros((end - now).0);
    record.attempts.push(AttemptRecord {
        endpoint: target.endpoint.id.clone(),
        index: chosen.expect("it was dispatched"),
        pool: target.facts.name.as_str().into(),
        span_id: 1,
        began: Duration::ZERO,
        ended: record.ended_at,
        status: Some(200),
        failure: None,
        cause: "",
        continued: None,
        hedge: false,
    });
    record.usd = estimate.usd;
    record.joules = estimate.joules;
    let tokens = Usage { input_tokens: work.input_tokens, output_tokens: work.output_tokens, cached_tokens: None };
    Ok((Running { record, dispatched, tokens }, first_token, end))
}

/// A first token, or an end, which gives the record back.
fn happen(Reverse((now, _, index, ends)): Event, running: &mut [Option<Running>]) -> Option<Record> {
    if !ends {
        running[index].as_mut().expect("it runs").dispatched.first_token(now);
        return None;
    }
    let Running { mut record, dispatched, tokens } = running[index].take().expect("it runs");
    dispatched.settle(now, tokens.input_tokens + tokens.output_tokens);
    record.usage = Some(tokens);
    record.status = 200;
    record.outcome = Outcome::Answered;
    Some(record)
}

fn facts(now: Micros, input_tokens: u64, output_tokens: u64, random: &mut impl FnMut() -> u64) -> OwnedFacts {
    let draw = random() % 100;
    let patient = draw >= 70;
    let session = random() % 400;
    OwnedFacts {
        api: Api::ChatCompletions,
        path: "/v1/chat/completions".to_owned(),
        headers: if draw < 25 { vec![("x-agent".to_owned(), "voice".to_owned())] } else { Vec::new() },
        tenant: ["acme", "acme", "globex", "initech"][(session % 4) as usize].to_owned(),
        model: if patient && random() % 100 < 15 { "llama-3.1-8b" } else { "gpt-oss-120b" }.to_owned(),
        stream: !patient,
        service_tier: if draw >= 90 { "flex" } else { "" }.to_owned(),
        input_tokens,
        output_tokens,
        max_output_tokens: session.is_multiple_of(3).then_some(output_tokens * 2),
        tools: u64::from(session.is_multiple_of(5)),
        session: format!("session-{session}"),
        unix_s: BEGINNING_S + now.0 / 1_000_000,
        ..OwnedFacts::default()
    }
}

fn line(line: &str) -> Option<(f64, u64, u64)> {
    let mut fields = line.split(',');
    let at_ms = fields.next()?.parse().ok()?;
    let _source = fields.next()?;
    Some((at_ms, fields.next()?.parse().ok()?, fields.next()?.parse::<u64>().ok()?.max(1)))
}

/// SplitMix64: the same numbers everywhere.
fn draws(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
