//! The same requests through the real gateway, over HTTP and in real time, and through the simulation: what each side comes
//! to, in the same figures.

/// Request by request.
pub mod told;
/// Whether the host kept up.
pub mod pulse;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman::config::set::{self, ConfigSet};
use pointsman::record::Record;
use pointsman::simulation::conditions::{Conditions, Metrics};
use pointsman::simulation::machine::profile;
use pointsman::simulation::pointsman::Pointsman;
use pointsman::simulation::report::Report;
use pointsman::simulation::router::Router;
use pointsman::simulation::workload::{Request, Workload};
use pointsman::simulation::world::{self, Setup};
use pointsman::snapshot::Snapshot;
use pointsman_backends::fleet::Fleet;
use pointsman_backends::portfolio::{Endpoint, Secrets};
use pointsman_backends::simulators::account::Account;
use pointsman_backends::simulators::server::{RunningSimulator, Simulator, SimulatorConfig};
use pointsman_policies::attain::{Observed, parts_kept};
use pointsman_policies::policy::{Policy, Slo};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{Ask, Connection, Next};
use crate::files::{Files, PROCESS};
use crate::gateway::Gateway;
use told::{Told, Watched};

/// Held requests may wait so long and longer.
const PATIENCE: Duration = Duration::from_secs(900);
/// The gateway's memory of its last requests is read after so many.
const REMEMBER_EVERY: usize = 500;
/// What prompts are made of; each begins with its own number, so that no cache knows it.
const WORDS: &str = " the points are set so that each train takes the track that suits it best";
/// Bytes of a token, as machines and gateway count before they know better.
const BYTES_PER_TOKEN: usize = 4;

/// Machines behind real ports, the gateway before them, and the same as the simulation has it.
#[derive(Debug)]
pub struct Stage {
    /// The gateway.
    pub gateway: Gateway,
    /// The machines, in the order of the portfolio's endpoints.
    pub machines: Vec<RunningSimulator>,
    set: ConfigSet,
    model: String,
}

/// What one side came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    /// By class: its name, what was kept and made, refusals, and the time to the first token in the middle, milliseconds.
    pub classes: Vec<Class>,
    /// Paid, US dollars.
    pub usd: f64,
    /// Answers by pool, in the order of the portfolio.
    pub by_pool: Vec<u64>,
}

/// One class of a side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Promises kept.
    pub good: u64,
    /// Promises made.
    pub all: u64,
    /// Not answered whole.
    pub lost: u64,
    /// The median of the time to first token of streams, milliseconds.
    pub ttft_p50_ms: f64,
    /// Its 99th percentile, milliseconds.
    pub ttft_p99_ms: f64,
}

impl Class {
    /// The part that was kept, 0 to 1.
    pub fn kept(&self) -> f64 {
        self.good as f64 / self.all.max(1) as f64
    }
}

impl Side {
    /// The part of all promises that was kept, 0 to 1.
    pub fn kept(&self) -> f64 {
        let sum = |count: fn(&Class) -> u64| self.classes.iter().map(count).sum::<u64>();
        sum(|class| class.good) as f64 / sum(|class| class.all).max(1) as f64
    }

    /// The mean of several.
    pub fn mean(sides: &[Side]) -> Side {
        let count = sides.len().max(1) as u64;
        let mut mean = sides.first().cloned().unwrap_or_default();
        for side in sides.iter().skip(1) {
            mean.usd += side.usd;
            for (sum, one) in mean.by_pool.iter_mut().zip(&side.by_pool) {
                *sum += one;
            }
            for (sum, one) in mean.classes.iter_mut().zip(&side.classes) {
                sum.good += one.good;
                sum.all += one.all;
                sum.lost += one.lost;
                sum.ttft_p50_ms += one.ttft_p50_ms;
                sum.ttft_p99_ms += one.ttft_p99_ms;
            }
        }
        mean.usd /= count as f64;
        mean.by_pool.iter_mut().for_each(|sum| *sum /= count);
        for class in &mut mean.classes {
            class.ttft_p50_ms /= count as f64;
            class.ttft_p99_ms /= count as f64;
        }
        mean
    }
}

impl Stage {
    /// Starts a machine for each endpoint of a portfolio, as the simulation would have it, and a gateway. Round trips are
    /// left out: there are none on this host.
    pub async fn start(portfolio: &str, policy: &str) -> Stage {
        let near = |line: &&str| !line.trim_start().starts_with("round_trip_ms");
        let mut text = portfolio.lines().filter(near).collect::<Vec<_>>().join("\n");
        let planned = load(Files::new(PROCESS, &text, policy).folder());
        let mut machines = Vec::new();
        // A pool has its limits together.
        let accounts: Vec<Option<Account>> =
            planned.portfolio.pools.iter().map(|pool| pool.limits.map(Account::new)).collect();
        for (index, endpoint) in planned.portfolio.endpoints.iter().enumerate() {
            let facts = &planned.portfolio.facts[endpoint.pool];
            let models = facts.models.iter().map(|model| model.name.clone()).collect();
            let config = SimulatorConfig {
                seed: index as u64,
                account: accounts[endpoint.pool].clone(),
                ..SimulatorConfig::new(profile(facts), models)
            };
            let running = Simulator::start(config).await.expect("it can listen");
            let scheme = if endpoint.address.tls { "https" } else { "http" };
            let url = format!("\"{scheme}://{}\"", endpoint.address.authority);
            assert!(text.contains(&url), "the portfolio writes {url}");
            text = text.replace(&url, &format!("\"http://{}\"", running.address()));
            machines.push(running);
        }
        let gateway = Gateway::start(PROCESS, &text, policy).await;
        let set = load(gateway.files.folder());
        let model = set.portfolio.facts[0].models[0].name.clone();
        Stage { gateway, machines, set, model }
    }

    /// Plays the requests in real time and waits for the last answer.
    pub async fn live(&self, workload: &Workload) -> Side {
        self.live_told(workload).await.0
    }

    /// The same, and what became of each.
    pub async fn live_told(&self, workload: &Workload) -> (Side, Vec<Told>) {
        let began = Instant::now();
        let mut playing = JoinSet::new();
        let mut told: HashMap<String, Told> = HashMap::new();
        let mut late_ms = Vec::with_capacity(workload.requests.len());
        for (number, request) in workload.requests.iter().enumerate() {
            let due = Duration::from_micros(request.at.0);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            late_ms.push((began.elapsed() - due).as_secs_f64() * 1e3);
            let ask = self.ask(workload, number, request);
            let (address, stream) = (self.gateway.address(), request.stream);
            playing.spawn(async move { (number, answer(address, ask, stream).await) });
            if number % REMEMBER_EVERY == 0 {
                self.remember(&mut told);
            }
        }
        let mut answers = Vec::new();
        while let Some(answered) = playing.join_next().await {
            answers.push(answered.expect("a client that ends well"));
        }
        answers.sort_by_key(|(number, _)| *number);
        self.remember(&mut told);
        let each = workload.requests.iter().zip(&answers).map(|(request, (number, answer))| Told {
            at_ms: request.at.as_ms(),
            late_ms: late_ms[*number],
            observed: answer.as_ref().map(|answer| answer.observed),
            ..told.remove(&number.to_string()).unwrap_or_default()
        });
        let each = each.collect();
        (self.side(workload, answers.into_iter().map(|(_, answer)| answer)), each)
    }

    /// The gateway forgets its last requests after a while.
    fn remember(&self, told: &mut HashMap<String, Told>) {
        let new = |record: &Record| !told.contains_key(&record.request_id);
        let new = self.gateway.inner().telemetry().traffic().books().details.newest(usize::MAX, new);
        told.extend(new.iter().map(|record| (record.request_id.clone(), Told::of_record(record))));
    }

    /// Simulates the requests.
    pub fn simulated(&self, workload: &Workload, seed: u64) -> Side {
        self.simulated_told(workload, seed).0
    }

    /// The same, and what became of each.
    pub fn simulated_told(&self, workload: &Workload, seed: u64) -> (Side, Vec<Told>) {
        let setup = Setup { portfolio: &self.set.portfolio, policy: &self.set.policy, model: &self.model };
        let conditions = Conditions { seed, metrics: Metrics::LOST, ..Conditions::default() };
        let snapshot = Snapshot::build(1, copy(&self.set), None, &Fleet::default());
        let told = Rc::new(RefCell::new(vec![Told::default(); workload.requests.len()]));
        let router = Watched { router: Pointsman::new(Arc::new(snapshot), seed), told: Rc::clone(&told) };
        let mut routers: [Box<dyn Router>; 1] = [Box::new(router)];
        let report = world::run(&setup, workload, &conditions, &mut routers);
        (of_report(&report), told.take())
    }

    /// By class of a workload: promises kept and made by those requests that count.
    pub fn kept(&self, workload: &Workload, told: &[Told], counts: impl Fn(usize) -> bool) -> Vec<(u64, u64)> {
        let slos: Vec<Slo> = workload.classes.iter().map(|name| slo(&self.set.policy, name)).collect();
        let mut kept = vec![(0, 0); workload.classes.len()];
        let each = workload.requests.iter().zip(told).enumerate();
        for (_, (request, told)) in each.filter(|(index, _)| counts(*index)) {
            let class = usize::from(request.class);
            let good = told.observed.is_some_and(|observed| parts_kept(&slos[class], &observed).all(|(_, kept)| kept));
            kept[class].0 += u64::from(good);
            kept[class].1 += 1;
        }
        kept
    }

    fn ask(&self, workload: &Workload, number: usize, request: &Request) -> Ask {
        // The machine counts what there is; what the gateway makes of the length is as far off as in the simulation.
        let bytes = request.read_input_tokens as usize * BYTES_PER_TOKEN;
        let words = format!("{number} of {bytes}").chars().chain(WORDS.chars().cycle()).take(bytes).collect::<String>();
        let mut body = json!({
            "model": self.model,
            "messages": [{ "role": "user", "content": words }],
            "stream": request.stream,
            "simulated_prompt_tokens": request.input_tokens,
            "simulated_answer_tokens": request.output_tokens,
        });
        if request.max_output_tokens > 0 {
            body["max_tokens"] = json!(request.max_output_tokens);
        }
        if request.stream {
            body["stream_options"] = json!({ "include_usage": true });
        }
        Ask::chat(&body)
            .header("x-request-id", &number.to_string())
            .header("x-pointsman-class", &workload.classes[usize::from(request.declared)])
            .header("x-pointsman-tenant", &workload.tenants[usize::from(request.tenant)])
    }

    /// What the machines' owners charge for all that they have served, answers that nobody waited for included.
    fn usd(&self) -> f64 {
        let charge = |(machine, endpoint): (&RunningSimulator, &Endpoint)| {
            let pool = &self.set.portfolio.facts[endpoint.pool];
            let served = machine.stats();
            pool.model(&self.model).map_or(0.0, |model| model.price.usd(served.prompt_tokens, served.output_tokens))
        };
        self.machines.iter().zip(&self.set.portfolio.endpoints).map(charge).sum()
    }

    fn side(&self, workload: &Workload, answers: impl Iterator<Item = Option<Answer>>) -> Side {
        let facts = &self.set.portfolio.facts;
        let mut side = Side { by_pool: vec![0; facts.len()], usd: self.usd(), ..Side::default() };
        side.classes = workload.classes.iter().map(|name| Class { name: name.clone(), ..Class::default() }).collect();
        let mut ttft_ms: Vec<Vec<f64>> = vec![Vec::new(); workload.classes.len()];
        for (request, answer) in workload.requests.iter().zip(answers) {
            let class = &mut side.classes[usize::from(request.class)];
            class.all += 1;
            let Some(answer) = answer else {
                class.lost += 1;
                continue;
            };
            let slo = slo(&self.set.policy, &class.name);
            class.good += u64::from(parts_kept(&slo, &answer.observed).all(|(_, kept)| kept));
            ttft_ms[usize::from(request.class)].extend(answer.observed.ttft_ms);
            let pool = facts.iter().position(|pool| pool.endpoints.contains(&answer.endpoint)).expect("a pool");
            side.by_pool[pool] += 1;
        }
        for (class, times) in side.classes.iter_mut().zip(&mut ttft_ms) {
            times.sort_by(f64::total_cmp);
            let quantile = |part: f64| times.get((times.len() as f64 * part) as usize).or(times.last()).copied();
            class.ttft_p50_ms = quantile(0.5).unwrap_or(0.0);
            class.ttft_p99_ms = quantile(0.99).unwrap_or(0.0);
        }
        side
    }
}

fn load(folder: &Path) -> ConfigSet {
    let mut loaded = set::load(&folder.join("pointsman.toml"), Secrets::Optional);
    loaded.set.take().unwrap_or_else(|| panic!("{}", loaded.render(false)))
}

fn copy(set: &ConfigSet) -> ConfigSet {
    ConfigSet {
        process: set.process.clone(),
        portfolio: Arc::clone(&set.portfolio),
        policy: Arc::clone(&set.policy),
        candidate: None,
        texts: set.texts.clone(),
        hash: set.hash.clone(),
    }
}

fn slo(policy: &Policy, class: &str) -> Slo {
    policy.class_by_name(class).map_or(Slo::default(), |id| policy.classes[id.0].slo)
}

fn of_report(report: &Report) -> Side {
    let classes = report.classes.iter().map(|class| Class {
        name: class.name.clone(),
        good: class.kept.good,
        all: class.kept.all,
        lost: class.shed + class.broken + class.unfinished,
        ttft_p50_ms: class.ttft_us.quantile(0.5) / 1e3,
        ttft_p99_ms: class.ttft_us.quantile(0.99) / 1e3,
    });
    let pools = (0..report.pools.len()).map(|pool| report.classes.iter().map(|class| class.by_pool[pool]).sum());
    Side { classes: classes.collect(), usd: report.usd(), by_pool: pools.collect() }
}

struct Answer {
    endpoint: String,
    observed: Observed,
}

/// One request as a client sees it; `None` where it was refused or broke off.
async fn answer(address: SocketAddr, ask: Ask, stream: bool) -> Option<Answer> {
    let began = Instant::now();
    let connection = Connection::http1(address).await.patient(PATIENCE);
    let mut answered = connection.try_open(ask).await.ok()?;
    if !answered.status.is_success() {
        return None;
    }
    let endpoint = answered.header("x-pointsman-endpoint").to_owned();
    let ms = |at: Instant| (at - began).as_secs_f64() * 1e3;
    if !stream {
        let reply = answered.whole().await.ok()?;
        let output_tokens = reply.json()["usage"]["completion_tokens"].as_u64()?;
        let observed = Observed { total_ms: ms(Instant::now()), output_tokens, ..Observed::default() };
        return Some(Answer { endpoint, observed });
    }
    let (mut first, mut last, mut output_tokens, mut done) = (None, began, 0, false);
    loop {
        match answered.next().await {
            Next::Event(event) if event == "[DONE]" => done = true,
            Next::Event(event) if event.contains("\"usage\":{") => {
                let usage: Value = serde_json::from_str(&event).ok()?;
                output_tokens = usage["usage"]["completion_tokens"].as_u64()?;
            }
            Next::Event(_) => {
                last = Instant::now();
                first.get_or_insert(last);
            }
            Next::End => break,
            Next::Broken(_) => return None,
        }
    }
    let first = first.filter(|_| done)?;
    let itl_ms = (output_tokens > 1).then(|| (last - first).as_secs_f64() * 1e3 / (output_tokens - 1) as f64);
    let observed = Observed { streamed: true, ttft_ms: Some(ms(first)), itl_ms, total_ms: ms(last), output_tokens };
    Some(Answer { endpoint, observed })
}
