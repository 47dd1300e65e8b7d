//! A filter made ready for rows: names are looked up once, so that a row is tested by its numbers.

use xxhash_rust::xxh3::xxh3_64;

use super::{Being, Comparison, Figure, Filter, Like, Test, Worded};
use crate::traffic::names::{Column, Names};
use crate::traffic::row::{Mark, Row};

/// A trace's id is asked for by at least so many digits; fewer are found by chance.
const LEAST_DIGITS: usize = 6;
/// Words of `slo` before those of its parts.
const WHOLE: usize = 3;

/// A filter as rows are tested with it; of names that came later it knows nothing.
#[derive(Clone, Debug)]
pub struct Bound(Vec<(bool, Check)>);

#[derive(Clone, Debug)]
enum Check {
    /// By column, whether each name is meant.
    Named(Vec<(Column, Vec<bool>)>),
    Word(Worded, u32),
    Status(Vec<(u16, u16)>),
    Marked(Mark),
    Is(Being),
    Compared(Figure, Comparison, f64),
    Free(Free),
}

#[derive(Clone, Debug)]
struct Free {
    named: Vec<(Column, Vec<bool>)>,
    id_hash: u64,
    /// The first digits of a trace, and how far they have to be moved to the right.
    trace: Option<(u128, u32)>,
}

impl Filter {
    /// Ready for rows with these names.
    pub fn bind(&self, names: &Names) -> Bound {
        let checks = self.terms.iter().map(|term| (term.negated, check(&term.test, names)));
        Bound(checks.collect())
    }
}

impl Bound {
    /// Whether a row is meant; `detailed` is whether its detail is kept.
    pub fn is_met_by(&self, row: &Row, detailed: impl Fn() -> bool) -> bool {
        self.0.iter().all(|(negated, check)| check.holds(row, &detailed) != *negated)
    }
}

fn check(test: &Test, names: &Names) -> Check {
    match test {
        Test::Named(columns, likes) => {
            let like = |name: &str| likes.iter().any(|like| like.is(name));
            Check::Named(columns.iter().map(|column| (*column, meant(names, *column, like))).collect())
        }
        Test::Word(worded, bits) => Check::Word(*worded, *bits),
        Test::Status(ranges) => Check::Status(ranges.clone()),
        Test::Marked(mark) => Check::Marked(*mark),
        Test::Is(being) => Check::Is(*being),
        Test::Compared(figure, comparison, value) => Check::Compared(*figure, *comparison, *value),
        Test::Free(text) => {
            let contains = |name: &str| !name.is_empty() && name.to_lowercase().contains(text);
            let named = Column::ALL.map(|column| (column, meant(names, column, contains)));
            Check::Free(Free {
                named: named.into_iter().collect(),
                id_hash: xxh3_64(text.as_bytes()),
                trace: trace(text),
            })
        }
    }
}

fn meant(names: &Names, column: Column, is: impl Fn(&str) -> bool) -> Vec<bool> {
    names.of(column).iter().map(|name| is(name)).collect()
}

fn trace(text: &str) -> Option<(u128, u32)> {
    let digits = u32::try_from(text.len()).ok().filter(|_| (LEAST_DIGITS..=32).contains(&text.len()))?;
    let value = u128::from_str_radix(text, 16).ok()?;
    Some((value, (32 - digits) * 4))
}

impl Like {
    fn is(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        if self.beginning { name.starts_with(&self.text) } else { name == self.text }
    }
}

fn is_named(named: &[(Column, Vec<bool>)], row: &Row) -> bool {
    named.iter().any(|(column, meant)| meant.get(usize::from(row.name(*column))).is_some_and(|meant| *meant))
}

impl Check {
    fn holds(&self, row: &Row, detailed: impl Fn() -> bool) -> bool {
        match self {
            Check::Named(named) => is_named(named, row),
            Check::Word(worded, bits) => bits & words(*worded, row) != 0,
            Check::Status(ranges) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&row.status)),
            Check::Marked(mark) => row.is(*mark),
            Check::Is(Being::Error) => row.is_error(),
            Check::Is(Being::Retried) => row.attempts > 1,
            Check::Is(Being::Detailed) => detailed(),
            Check::Compared(figure, comparison, value) => compare(figure_of(*figure, row), *comparison, *value),
            Check::Free(free) => {
                let is_trace = free.trace.is_some_and(|(digits, shift)| row.trace_id >> shift == digits);
                is_trace || free.id_hash == row.id_hash || is_named(&free.named, row)
            }
        }
    }
}

/// The words that are true of a row, as bits.
fn words(worded: Worded, row: &Row) -> u32 {
    match worded {
        Worded::Api => 1 << row.api,
        Worded::Kind => 1 << row.kind,
        Worded::Outcome => 1 << row.outcome,
        Worded::Slo => 1 << row.slo() as u8 | u32::from(row.missed_bits()) << WHOLE,
        Worded::Stream => 1 << u8::from(row.is(Mark::Stream)),
    }
}

fn figure_of(figure: Figure, row: &Row) -> f64 {
    match figure {
        Figure::Ttft => row.ttft_ms.into(),
        Figure::Itl => row.itl_ms.into(),
        Figure::Total => row.total_ms.into(),
        Figure::Queue => row.queue_ms.into(),
        Figure::Input => row.input_tokens.into(),
        Figure::Output => row.output_tokens.into(),
        Figure::Cached => row.cached_tokens.into(),
        Figure::Attempts => row.attempts.into(),
        Figure::Status => row.status.into(),
        Figure::Generation => row.generation.into(),
        Figure::Usd => row.usd.into(),
        Figure::Joules => row.joules.into(),
        Figure::At => row.unix_ms as f64,
    }
}

fn compare(figure: f64, comparison: Comparison, value: f64) -> bool {
    match comparison {
        Comparison::Above => figure > value,
        Comparison::AtLeast => figure >= value,
        Comparison::Below => figure < value,
        Comparison::AtMost => figure <= value,
        Comparison::Equal => (figure - value).abs() <= value.abs() * 1e-6,
    }
}
