//! The language in which requests are asked for, everywhere the same: `class:interactive slo:miss ttft>300ms -backend:gpu-a`.
//! All terms must hold; `-` turns one round.

/// Fields and what they take.
mod field;
/// From text to terms.
mod parse;
/// Terms made ready for rows.
mod bound;
#[cfg(test)]
mod tests;

pub use bound::Bound;
pub use parse::parse;

use super::names::Column;
use super::row::Mark;

/// Terms of one filter; more say nothing that fewer could not.
const MOST_TERMS: usize = 64;
/// Longest filter, bytes.
pub const MOST_BYTES: usize = 4_096;

/// Requests that somebody asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    terms: Vec<Term>,
}

impl Filter {
    /// Whether it lets everything through.
    pub fn is_all(&self) -> bool {
        self.terms.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    negated: bool,
    test: Test,
}

/// What is tested of a request.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    /// A name of one of these columns is like one of these.
    Named(&'static [Column], Vec<Like>),
    /// The number of a word is one of these bits.
    Word(Worded, u32),
    /// The status lies in one of these, both ends included.
    Status(Vec<(u16, u16)>),
    /// It is marked so.
    Marked(Mark),
    /// It is marked so, or not.
    Is(Being),
    /// A figure compares so.
    Compared(Figure, Comparison, f64),
    /// A name contains this, in lower case, or a trace begins with it, or a request is called so.
    Free(String),
}

/// A name, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Like {
    text: String,
    beginning: bool,
}

/// Fields of few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worded {
    Api,
    Kind,
    Outcome,
    Slo,
    Stream,
}

/// What a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Being {
    Error,
    Retried,
    Detailed,
}

/// Figures of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Ttft,
    Itl,
    Total,
    Queue,
    Input,
    Output,
    Cached,
    Attempts,
    Status,
    Generation,
    Usd,
    Joules,
    At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
}
