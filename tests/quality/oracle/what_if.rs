//! Machines of the fleet by themselves: what would become of requests that are sent there. Given a plan, machines do not
//! know of one another but for the rate limit that a pool shares, so only those that a change touches are run again.

use std::collections::BTreeMap;

use pointsman::simulation::machine::{Machine, profile, seed};
use pointsman::simulation::workload::Workload;
use pointsman::simulation::world::Setup;
use pointsman_backends::lease::{Limiter, Reservation};
use pointsman_backends::simulators::engine::{Admission, Emission, Job};
use pointsman_policies::attain::{Observed, parts_kept};
use pointsman_policies::units::Micros;

use super::instance::Instance;

/// Machines that must be run together: those of a pool with a rate limit, else one.
#[derive(Clone, Debug)]
pub struct Group {
    machines: Vec<(usize, Machine)>,
    limiter: Option<Limiter>,
    one_way: Micros,
    /// What is under way: what it took of the limit, and when its first token was made.
    running: BTreeMap<u32, (Option<Reservation>, Option<Micros>)>,
    /// What is on its way to a machine, in order.
    coming: BTreeMap<(Micros, u32), usize>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fate {
    /// The request.
    pub request: u32,
    /// Whether its promise was kept.
    pub kept: bool,
    /// Whether a machine took it: then it is paid for.
    pub taken: bool,
}

/// What all groups share.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The requests.
    pub workload: &'a Workload,
    /// The same with their promises.
    pub instance: &'a Instance,
}

/// The groups of a fleet, idle, and the group of each endpoint.
pub fn groups(setup: &Setup<'_>, run_seed: u64) -> (Vec<Group>, Vec<usize>) {
    let portfolio = setup.portfolio;
    let mut groups: Vec<Group> = Vec::new();
    let mut group_of = Vec::new();
    let mut group_of_pool = BTreeMap::new();
    for (index, endpoint) in portfolio.endpoints.iter().enumerate() {
        let (facts, limits) = (&portfolio.facts[endpoint.pool], portfolio.pools[endpoint.pool].limits);
        let machine = Machine::new(&profile(facts), endpoint.pool, seed(run_seed, index));
        let shared = limits.and_then(|_| group_of_pool.get(&endpoint.pool).copied());
        let group = shared.unwrap_or(groups.len());
        if shared.is_none() {
            group_of_pool.insert(endpoint.pool, group);
            groups.push(Group {
                machines: Vec::new(),
                limiter: limits.map(Limiter::new),
                one_way: Micros::from_ms(facts.round_trip_ms / 2.0),
                running: BTreeMap::new(),
                coming: BTreeMap::new(),
            });
        }
        groups[group].machines.push((index, machine));
        group_of.push(group);
    }
    (groups, group_of)
}

impl Group {
    /// A request is sent to one of its endpoints.
    pub fn send(&mut self, at: Micros, request: u32, endpoint: usize) {
        self.coming.insert((at + self.one_way, request), endpoint);
    }

    /// Lets everything happen until a moment; for ever where `None`.
    pub fn run(&mut self, ground: &Ground<'_>, until: Option<Micros>, fates: &mut Vec<Fate>) {
        let until = until.unwrap_or(Micros::NEVER);
        while let Some(((at, request), endpoint)) =
            self.coming.first_key_value().map(|(key, endpoint)| (*key, *endpoint))
        {
            if at > until {
                break;
            }
            self.coming.pop_first();
            self.advance(ground, at, fates);
            self.reach(ground, at, request, endpoint, fates);
        }
        self.advance(ground, until, fates);
    }

    fn advance(&mut self, ground: &Ground<'_>, until: Micros, fates: &mut Vec<Fate>) {
        let mut sent: Vec<Emission> = Vec::new();
        for (_, machine) in &mut self.machines {
            machine.engine.advance(until, &mut sent);
        }
        if self.machines.len() > 1 {
            sent.sort_by_key(|emission| emission.at);
        }
        for emission in sent.iter().filter(|emission| emission.first || emission.last) {
            let request = emission.id as u32;
            let Some((_, first)) = self.running.get_mut(&request) else { continue };
            let first = *first.get_or_insert(emission.at);
            if !emission.last {
                continue;
            }
            let Some((reservation, _)) = self.running.remove(&request) else { continue };
            let ask = &ground.instance.asks[request as usize];
            if let Some((limiter, reservation)) = self.limiter.as_mut().zip(reservation) {
                limiter.settle(emission.at, reservation, ask.input_tokens + ask.output_tokens);
            }
            let back = self.one_way;
            let gaps = ask.gaps();
            let observed = Observed {
                streamed: ask.streamed,
                ttft_ms: Some((first + back - ask.at).as_ms()),
                itl_ms: (gaps > 0.0).then(|| (emission.at - first).as_ms() / gaps),
                total_ms: (emission.at + back - ask.at).as_ms(),
                output_tokens: ask.output_tokens,
            };
            let kept = parts_kept(&ask.slo, &observed).all(|(_, kept)| kept);
            fates.push(Fate { request, kept, taken: true });
        }
    }

    fn reach(&mut self, ground: &Ground<'_>, at: Micros, request: u32, endpoint: usize, fates: &mut Vec<Fate>) {
        let asked = &ground.workload.requests[request as usize];
        let (input, reserved) = (u64::from(asked.input_tokens), u64::from(asked.max_output_tokens));
        let turned_away = Fate { request, kept: false, taken: false };
        let reservation = match self.limiter.as_mut().map(|limiter| limiter.try_take(at, input, reserved)) {
            Some(Err(_)) => return fates.push(turned_away),
            Some(Ok(reservation)) => Some(reservation),
            None => None,
        };
        let Some((_, machine)) = self.machines.iter_mut().find(|(index, _)| *index == endpoint) else { return };
        let job = Job {
            id: u64::from(request),
            prompt_tokens: input,
            prefix: ground.workload.prefix(asked).into(),
            output_tokens: u64::from(asked.output_tokens),
            reserved_output_tokens: reserved,
            ..Job::default()
        };
        match machine.engine.submit(at, job) {
            Admission::Accepted => drop(self.running.insert(request, (reservation, None))),
            Admission::Refused(_) => {
                if let Some((limiter, reservation)) = self.limiter.as_mut().zip(reservation) {
                    limiter.give_back(at, reservation);
                }
                fates.push(turned_away);
            }
        }
    }
}
