//! What people see of a demo: where everything is, the table while it runs, the table at the end.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::Arguments;
use super::files::Folder;
use super::machines::Machines;
use super::staging;
use super::tally::{Outcome, Tally};
use crate::gateway::Gateway;
use crate::serve::Running;

/// How often progress is told where there is no terminal.
const PROGRESS: Duration = Duration::from_secs(5);
/// Terminal codes: cursor to the top left, clear from there.
const HOME_AND_CLEAR: &str = "\x1b[H\x1b[J";

/// Where everything is.
pub(super) fn greeting(running: &Running, folder: &Folder, machines: &Machines, arguments: &Arguments) -> String {
    let mut text = format!(
        "Pointsman demo: simulated machines, real HTTP, traffic of the Azure 2023 traces.\n\n  \
         API        http://{}/v1\n  dashboard  http://{}\n  admin      http://{}   /metrics /readyz /api/v1/status\n  \
         policy     {}   (edit it and watch)\n  machines  ",
        running.address,
        running.admin_address,
        running.admin_address,
        folder.policy_file.display(),
    );
    for (index, machine) in machines.iter().enumerate() {
        let indent = if index == 0 { "" } else { "            " };
        let _ = writeln!(text, "{indent} {:<6} {}  pid {}", machine.pool, machine.address, machine.pid);
    }
    if let Some(file) = &arguments.record {
        let file = file.display();
        let _ = writeln!(text, "  record     {file}   (afterwards: pointsman replay --log {file})");
    }
    let _ = write!(
        text,
        "\n  curl -N http://{}/v1/chat/completions -H 'content-type: application/json' -i \\\n    \
         -d '{{\"model\":\"gpt-oss-120b\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'\n\n  \
         Kill a machine (kill -9 PID): it comes back after 10 s. Ctrl-C ends the demo.\n",
        running.address,
    );
    if !arguments.calm {
        let _ = writeln!(text, "  {}", staging::TOLD);
    }
    text.push('\n');
    text
}

/// Draws a whole screen anew on a terminal, or tells progress in single lines on stderr, so that stdout stays one JSON
/// object where that was asked for.
#[derive(Debug)]
pub(super) struct Screen {
    greeting: Option<String>,
    generation: u64,
    refused: Option<u64>,
    news: String,
    progress_due: Duration,
}

impl Screen {
    pub(super) fn new(drawn: bool, greeting: String, generation: u64) -> Screen {
        let greeting = if drawn {
            Some(greeting)
        } else {
            anstream::eprint!("{greeting}");
            None
        };
        Screen { greeting, generation, refused: None, news: String::new(), progress_due: PROGRESS }
    }

    /// Shows how things stand.
    pub(super) fn show(&mut self, elapsed: Duration, gateway: &Gateway, tally: &mut Tally) {
        let outcome = tally.result(&gateway.snapshot());
        let news = self.news(gateway);
        let Some(greeting) = &self.greeting else {
            anstream::eprint!("{news}");
            if elapsed < self.progress_due {
                return;
            }
            self.progress_due += PROGRESS;
            let recent = recent(tally);
            anstream::eprintln!("{:>4} s  {}; {recent}", elapsed.as_secs(), summary(&outcome));
            return;
        };
        let recent = recent(tally);
        if !news.is_empty() {
            self.news = news;
        }
        let mut out = anstream::stdout().lock();
        let text = format!("{greeting}{}{recent}\n{}\n\n{}", table(&outcome), summary(&outcome), self.news);
        let _ = write!(out, "{HOME_AND_CLEAR}{text}");
        let _ = out.flush();
    }

    /// A swap or a refusal since the last look, in words.
    fn news(&mut self, gateway: &Gateway) -> String {
        let snapshot = gateway.snapshot();
        let status = gateway.reload_status();
        let mut news = String::new();
        if snapshot.generation != self.generation {
            self.generation = snapshot.generation;
            let _ = writeln!(news, "in force: {}", snapshot.version);
        }
        if status.ok {
            self.refused = None;
        } else if self.refused != Some(status.attempt) {
            self.refused = Some(status.attempt);
            let _ = writeln!(news, "refused, {} stays in force:\n{}", snapshot.version, status.rendered);
        }
        news
    }
}

/// The table at the end.
pub(super) fn final_table(outcome: &Outcome) -> String {
    format!("\n{}\n{}\n", table(outcome), summary(outcome))
}

fn table(outcome: &Outcome) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_BORDERS_ONLY_CONDENSED);
    let head = ["class", "requests", "attained", "TTFT p50", "p99 ms", "ITL p50", "p99 ms", "served by", "$", "kJ"];
    table.set_header(head);
    for class in &outcome.classes {
        let ms = |figure: Option<f64>, digits: usize| figure.map_or("-".to_owned(), |ms| format!("{ms:.digits$}"));
        let [ttft_p50, ttft_p99] = class.ttft_ms.map(|figure| ms(figure, 0));
        let [itl_p50, itl_p99] = class.itl_ms.map(|figure| ms(figure, 2));
        table.add_row([
            class.name.clone(),
            class.requests.to_string(),
            format!("{:.1} %", class.attainment * 100.0),
            ttft_p50,
            ttft_p99,
            itl_p50,
            itl_p99,
            shares(class.hardware.iter().copied()),
            format!("{:.4}", class.usd),
            format!("{:.1}", class.joules / 1e3),
        ]);
    }
    for column in [1, 2, 3, 4, 5, 6, 8, 9] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\nTTFT of whole answers is the time to the answer; their bound is ttft + itl x (tokens - 1).\n")
}

fn summary(outcome: &Outcome) -> String {
    let mut text = format!(
        "{}@{}: {} requests, {} errors, {} failed over, ${:.4}, {:.1} kJ (modelled)",
        outcome.policy,
        outcome.generation,
        outcome.requests,
        outcome.errors,
        outcome.failed_over,
        outcome.usd,
        outcome.joules / 1e3,
    );
    if outcome.let_go > 0 {
        let _ = write!(text, "; {} still running at the end were let go", outcome.let_go);
    }
    if let Some(error) = &outcome.last_error {
        let _ = write!(text, "; last error: {error}");
    }
    text
}

fn recent(tally: &mut Tally) -> String {
    let counts = tally.take_recent();
    let all: u64 = counts.values().sum();
    let share = |(kind, count): (&'static str, u64)| (kind, count as f64 / all.max(1) as f64);
    format!("since the last look: {}", shares(counts.into_iter().map(share)))
}

fn shares(shares: impl Iterator<Item = (&'static str, f64)>) -> String {
    let texts: Vec<String> = shares.map(|(kind, share)| format!("{kind} {:.0} %", share * 100.0)).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
}
