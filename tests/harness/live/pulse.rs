//! When the host itself stood still: what a machine that is lent to many does to a run in real time is nobody's fault.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// How often the pulse is taken.
const BEAT: Duration = Duration::from_millis(5);
/// A beat that comes later than this was held up.
const LATE: Duration = Duration::from_millis(30);
/// What a stall leaves behind, queues above all, takes so long to go.
const AFTERMATH: Duration = Duration::from_secs(2);

/// A timer beside a run in real time.
#[derive(Debug)]
pub struct Pulse {
    began: Instant,
    stalls: Arc<Mutex<Stalls>>,
    beating: JoinHandle<()>,
}

/// When nothing ran: from and until, after the beginning, in order.
#[derive(Clone, Debug, Default)]
pub struct Stalls(Vec<(Duration, Duration)>);

impl Pulse {
    /// Starts to take it, on the runtime that carries the run.
    pub fn start() -> Pulse {
        let (began, stalls) = (Instant::now(), Arc::new(Mutex::new(Stalls::default())));
        let found = Arc::clone(&stalls);
        let beating = tokio::spawn(async move {
            loop {
                let from = began.elapsed();
                tokio::time::sleep(BEAT).await;
                let until = began.elapsed();
                if until - from > BEAT + LATE {
                    found.lock().expect("a lock").0.push((from, until));
                }
            }
        });
        Pulse { began, stalls, beating }
    }

    /// What it has found until now, and how long after the beginning that is.
    pub fn stop(self) -> (Stalls, Duration) {
        self.beating.abort();
        let stalls = self.stalls.lock().expect("a lock").clone();
        (stalls, self.began.elapsed())
    }
}

impl Stalls {
    /// Whether something that ran in this time was held up, or came into what a stall had left behind.
    pub fn touch(&self, from: Duration, until: Duration) -> bool {
        self.0.iter().any(|(began, ended)| *began <= until && from <= *ended + AFTERMATH)
    }

    /// All of them together.
    pub fn total(&self) -> Duration {
        self.0.iter().map(|(began, ended)| *ended - *began).sum()
    }
}
