//! How many jobs a simulated machine serves in a second of real time, in virtual time, on one core.

use std::time::Instant;

use pointsman_backends::hardware;
use pointsman_backends::lease::RateLimits;
use pointsman_backends::simulators::engine::{Engine, Job};
use pointsman_backends::simulators::profile::{Detail, Profile};
use pointsman_policies::units::Micros;

/// Jobs served in one measurement.
const JOBS: u64 = 100_000;
/// Callers who send one job after the other: about what runs at once on a GPU in a fleet.
const CALLERS: u64 = 20;
/// A million requests a minute, in seconds.
const GOAL_PER_S: f64 = 1e6 / 60.0;

/// Prints it for each kind of machine, told every event and only the ends of streams.
pub(crate) fn serving() {
    for name in ["h100", "cs3", "cloud-api"] {
        for detail in [Detail::Events, Detail::Ends] {
            let hardware = hardware::find(name).expect("shipped");
            let profile = Profile { detail, limits: RateLimits::default(), ..Profile::of(hardware) };
            let (jobs_per_s, asked) = served(profile);
            println!(
                "{name}, {detail:?}: {jobs_per_s:.0} jobs/s, {:.1} times a million a minute, asked {asked:.1} times a job",
                jobs_per_s / GOAL_PER_S
            );
        }
    }
}

/// Jobs per second of real time, and how often the machine was asked what happens next for each.
fn served(profile: Profile) -> (f64, f64) {
    let mut engine = Engine::new(profile, 1);
    let job = |id| Job { id, prompt_tokens: 1200, output_tokens: 150, reserved_output_tokens: 150, ..Job::default() };
    let (mut sent, mut ended, mut asked) = (Vec::new(), 0, 0);
    for id in 0..CALLERS {
        engine.submit(Micros::from_ms(100.0 * id as f64), job(id));
    }
    let began = Instant::now();
    while ended < JOBS {
        let at = engine.next_event().expect("callers never stop");
        asked += 1;
        engine.advance(at, &mut sent);
        for _ in sent.drain(..).filter(|emission| emission.last) {
            engine.submit(at, job(CALLERS + ended));
            ended += 1;
        }
    }
    (JOBS as f64 / began.elapsed().as_secs_f64(), f64::from(asked) / JOBS as f64)
}
