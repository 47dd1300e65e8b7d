//! What is asked, when, by whom: a slice of public traces. They carry sizes and times only, so who asks is drawn by the
//! stated shares below, seeded.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::Client;

/// Ten minutes of the Azure 2023 traces.
const TRACE: &str = include_str!("../../../demo/azure2023-10min.csv");
/// The pause before the slice begins anew.
const BETWEEN_REPLAYS: Duration = Duration::from_millis(500);
/// Shares of conversation requests: voice agents, people who read along, programs that wait; the rest are jobs.
const VOICE: f64 = 0.25;
const READER: f64 = 0.45;
const PROGRAM: f64 = 0.20;
/// Share of code requests that stream into an editor; the rest are programs that wait.
const EDITOR: f64 = 0.7;
/// Share of programs and jobs that ask for the small model.
const SMALL_MODEL: f64 = 0.15;
/// Conversations that the trace's requests are dealt out to, and who has them: the first tenant has half of them.
const SESSIONS: u32 = 400;
const TENANTS: [&str; 4] = ["acme", "acme", "globex", "initech"];
/// A voice agent speaks a few sentences, not pages, tokens.
const LONGEST_SPOKEN: u64 = 250;

/// How the trace is replayed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replay {
    /// Requests per second, as a multiple of the trace's.
    pub(super) load: f64,
    /// Decides who asks.
    pub(super) seed: u64,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Streams, says it is a voice agent.
    Voice,
    /// Streams.
    Reader,
    /// Waits for the whole answer.
    Program,
    /// Waits for the whole answer, says it is in no hurry.
    Job,
}

/// One request of the trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// When, after the start of the slice.
    pub(super) at: Duration,
    /// Who.
    pub(super) caller: Caller,
    /// The conversation it belongs to.
    pub(super) session: u32,
    /// The model.
    pub(super) model: &'static str,
    /// Length of the prompt, tokens.
    pub(super) input_tokens: u64,
    /// Length of the answer, tokens.
    pub(super) output_tokens: u64,
}

impl Ask {
    /// Whose conversation it is.
    pub(super) fn tenant(&self) -> &'static str {
        TENANTS.get(self.session as usize % TENANTS.len()).copied().unwrap_or_default()
    }
}

/// Sends the slice again and again until told to stop, then waits a while for the answers still running; returns how
/// many were let go after that, as clients that leave.
pub(super) async fn replay(replay: Replay, client: Client, stop: CancellationToken, patience: Duration) -> usize {
    let leave = CancellationToken::new();
    let asks = asks(replay);
    let running = TaskTracker::new();
    let sending = async {
        loop {
            let began = Instant::now();
            for ask in &asks {
                tokio::time::sleep_until(began + ask.at).await;
                let (client, ask, leave) = (client.clone(), *ask, leave.clone());
                running.spawn(async move { leave.run_until_cancelled(client.ask(ask)).await });
            }
            tokio::time::sleep(BETWEEN_REPLAYS).await;
        }
    };
    let _ = stop.run_until_cancelled(sending).await;
    running.close();
    let _ = tokio::time::timeout(patience, running.wait()).await;
    let let_go = running.len();
    leave.cancel();
    running.wait().await;
    let_go
}

fn asks(replay: Replay) -> Vec<Ask> {
    let mut draw = fastrand::Rng::with_seed(replay.seed);
    let mut sessions = fastrand::Rng::with_seed(replay.seed.wrapping_add(1));
    let mut ask = |line| Some(Ask { session: sessions.u32(..SESSIONS), ..ask(line, replay.load, &mut draw)? });
    TRACE.lines().filter_map(&mut ask).collect()
}

fn ask(line: &str, load: f64, draw: &mut fastrand::Rng) -> Option<Ask> {
    let mut fields = line.split(',');
    let at_ms: f64 = fields.next()?.parse().ok()?;
    let source = fields.next()?;
    let (input_tokens, output_tokens) = (fields.next()?.parse().ok()?, fields.next()?.parse::<u64>().ok()?);
    let caller = caller(source, draw.f64());
    let patient = matches!(caller, Caller::Program | Caller::Job);
    let small = draw.f64() < SMALL_MODEL && patient;
    Some(Ask {
        at: Duration::from_secs_f64(at_ms / 1e3 / load),
        caller,
        session: 0,
        model: if small { "llama-3.1-8b" } else { "gpt-oss-120b" },
        input_tokens,
        output_tokens: if caller == Caller::Voice { output_tokens.min(LONGEST_SPOKEN) } else { output_tokens }.max(1),
    })
}

fn caller(source: &str, draw: f64) -> Caller {
    match source {
        "code" if draw < EDITOR => Caller::Reader,
        "code" => Caller::Program,
        _ if draw < VOICE => Caller::Voice,
        _ if draw < VOICE + READER => Caller::Reader,
        _ if draw < VOICE + READER + PROGRAM => Caller::Program,
        _ => Caller::Job,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slice_is_read_whole_and_the_same_for_a_seed() {
        let replay = Replay { load: 1.0, seed: 7 };
        let first = asks(replay);
        assert_eq!(first.len(), 5980);
        assert!(first.is_sorted_by_key(|ask| ask.at));
        let again = asks(replay);
        assert!(first.iter().zip(&again).all(|(one, other)| one.caller == other.caller && one.model == other.model));
    }
}
