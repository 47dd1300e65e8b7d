//! Rows of a trace, whatever format its file has. Three are known by their first line: Azure's CSV, CSV with
//! `t_s,client,input_tokens,output_tokens` (or `t_ms`), and Mooncake's JSON lines with hashes of prompt blocks. Lines of CSV
//! that begin with `#` are comments.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use pointsman_policies::units::Micros;
use serde::Deserialize;

/// Longer prompts and answers are mistakes in a file: no model takes as many tokens.
const MOST_TOKENS: u64 = 100_000_000;

/// Requests as a file tells them, from time zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// Its file's name without folder and ending.
    pub name: String,
    /// In order.
    pub rows: Vec<Row>,
    /// Names of clients, where the file has them.
    pub clients: Vec<String>,
    blocks: Vec<u64>,
}

/// One request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// When it comes, after the first of the trace.
    pub at: Micros,
    /// Length of its prompt, tokens.
    pub input_tokens: u32,
    /// Length of its answer, tokens.
    pub output_tokens: u32,
    /// Index of the client, where the file has clients.
    pub client: Option<u16>,
    first_block: u32,
    block_count: u32,
}

impl Row {
    /// A row without client and without hashes of its prompt.
    pub fn plain(at: Micros, input_tokens: u32, output_tokens: u32) -> Row {
        Row { at, input_tokens, output_tokens, ..Row::default() }
    }
}

/// Why a trace cannot be used: where, what, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; `None` where the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}; {}", self.problem, self.help)
    }
}

impl std::error::Error for TraceError {}

/// Where a problem is and what is one, before its file is known.
struct Problem(Option<usize>, String, &'static str);

const FORMATS: &str = "a trace is CSV with the columns `TIMESTAMP,ContextTokens,GeneratedTokens` or \
     `t_s,client,input_tokens,output_tokens`, or JSON lines with `timestamp`, `input_length` and `output_length`";
const COUNTS: &str = "prompts and answers are whole numbers of tokens";

impl Trace {
    /// Reads a file.
    pub fn load(file: &Path) -> Result<Trace, TraceError> {
        let at =
            |Problem(line, problem, help)| TraceError { file: file.to_owned(), line, problem, help: help.to_owned() };
        let text = std::fs::read_to_string(file).map_err(|error| {
            at(Problem(None, format!("cannot be read: {error}"), "name a file of UTF-8 text that this user may read"))
        })?;
        let name = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Trace::parse(&name, &text).map_err(at)
    }

    fn parse(name: &str, text: &str) -> Result<Trace, Problem> {
        let mut trace = Trace { name: name.to_owned(), ..Trace::default() };
        let text = text.trim_start_matches('\u{feff}');
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let mut lines = lines.by_ref().filter(|(_, line)| !(line.is_empty() || line.starts_with('#'))).peekable();
        let Some(&(_, first)) = lines.peek() else {
            return Err(Problem(None, "is empty".to_owned(), FORMATS));
        };
        if first.starts_with('{') {
            lines.try_for_each(|(number, line)| trace.json(number, line))?;
        } else {
            let columns = Columns::of(first)?;
            let mut clients = HashMap::new();
            lines.skip(1).try_for_each(|(number, line)| trace.csv(&columns, &mut clients, number, line))?;
        }
        if trace.rows.is_empty() {
            return Err(Problem(None, "has a header and no request".to_owned(), "give at least one row"));
        }
        trace.rows.sort_by_key(|row| row.at);
        let first = trace.rows.first().map_or(Micros(0), |row| row.at);
        trace.rows.iter_mut().for_each(|row| row.at = row.at - first);
        Ok(trace)
    }

    /// A trace made of rows; they are put in order.
    pub fn of(name: &str, mut rows: Vec<Row>) -> Trace {
        rows.sort_by_key(|row| row.at);
        Trace { name: name.to_owned(), rows, ..Trace::default() }
    }

    /// The chain of hashes of a row's prompt.
    pub fn blocks(&self, row: &Row) -> &[u64] {
        let first = row.first_block as usize;
        self.blocks.get(first..first + row.block_count as usize).unwrap_or_default()
    }

    fn csv(
        &mut self,
        columns: &Columns,
        clients: &mut HashMap<String, u16>,
        number: usize,
        line: &str,
    ) -> Result<(), Problem> {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let field = |column: usize, name: &str| {
            let missing = || Problem(Some(number), format!("has no `{name}`"), "give every column of the header");
            fields.get(column).copied().filter(|text| !text.is_empty()).ok_or_else(missing)
        };
        let time = field(columns.time, columns.time_name())?;
        let at = match columns.unit {
            TimeUnit::Date => date(time),
            TimeUnit::Seconds => seconds(time, 1e6),
            TimeUnit::Milliseconds => seconds(time, 1e3),
        };
        let at = at.ok_or_else(|| Problem(Some(number), format!("`{time}` is not a time"), columns.time_help()))?;
        let input_tokens = count(number, "prompt", field(columns.input, "the prompt's tokens")?)?;
        let output_tokens = count(number, "answer", field(columns.output, "the answer's tokens")?)?;
        let client = match columns.client {
            Some(column) => {
                let next = u16::try_from(clients.len()).unwrap_or(u16::MAX);
                let name = field(column, "client")?;
                Some(*clients.entry(name.to_owned()).or_insert_with(|| {
                    self.clients.push(name.to_owned());
                    next
                }))
            }
            None => None,
        };
        self.rows.push(Row { at, input_tokens, output_tokens, client, ..Row::default() });
        Ok(())
    }

    fn json(&mut self, number: usize, line: &str) -> Result<(), Problem> {
        #[derive(Deserialize)]
        struct Line {
            timestamp: f64,
            input_length: u64,
            output_length: u64,
            #[serde(default)]
            hash_ids: Vec<u64>,
        }
        let read: Line =
            serde_json::from_str(line).map_err(|error| Problem(Some(number), error.to_string(), FORMATS))?;
        if !(read.timestamp.is_finite() && read.timestamp >= 0.0) {
            let problem = format!("`timestamp` {} is not a time", read.timestamp);
            return Err(Problem(Some(number), problem, "give milliseconds from the beginning"));
        }
        let row = Row {
            at: Micros::from_ms(read.timestamp),
            input_tokens: tokens(number, "prompt", read.input_length)?,
            output_tokens: tokens(number, "answer", read.output_length)?,
            client: None,
            first_block: u32::try_from(self.blocks.len()).unwrap_or(u32::MAX),
            block_count: u32::try_from(read.hash_ids.len()).unwrap_or(0),
        };
        self.blocks.extend(read.hash_ids);
        self.rows.push(row);
        Ok(())
    }
}

/// How a file writes times.
#[derive(Clone, Copy)]
enum TimeUnit {
    Date,
    Seconds,
    Milliseconds,
}

/// Where a CSV file has what.
struct Columns {
    time: usize,
    unit: TimeUnit,
    input: usize,
    output: usize,
    client: Option<usize>,
}

impl Columns {
    fn of(header: &str) -> Result<Columns, Problem> {
        let names: Vec<String> = header.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
        let place = |wanted: &str| names.iter().position(|name| name == wanted);
        let azure = place("timestamp").zip(place("contexttokens")).zip(place("generatedtokens"));
        let seconds = place("t_s").map(|time| (time, TimeUnit::Seconds));
        let time = seconds.or_else(|| place("t_ms").map(|time| (time, TimeUnit::Milliseconds)));
        let plain = time.zip(place("input_tokens")).zip(place("output_tokens"));
        match (azure, plain) {
            (Some(((time, input), output)), _) => {
                Ok(Columns { time, unit: TimeUnit::Date, input, output, client: None })
            }
            (_, Some((((time, unit), input), output))) => {
                Ok(Columns { time, unit, input, output, client: place("client") })
            }
            _ => Err(Problem(Some(1), format!("`{}` is the header of no known format", shortened(header)), FORMATS)),
        }
    }

    fn time_name(&self) -> &'static str {
        match self.unit {
            TimeUnit::Date => "TIMESTAMP",
            TimeUnit::Seconds => "t_s",
            TimeUnit::Milliseconds => "t_ms",
        }
    }

    fn time_help(&self) -> &'static str {
        match self.unit {
            TimeUnit::Date => "write it as `2023-11-16 18:15:46.6805900`",
            TimeUnit::Seconds => "give seconds from the beginning",
            TimeUnit::Milliseconds => "give milliseconds from the beginning",
        }
    }
}

fn shortened(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() { format!("{cut}...") } else { cut }
}

fn count(line: usize, what: &str, text: &str) -> Result<u32, Problem> {
    let read: f64 = text
        .parse()
        .ok()
        .filter(|count: &f64| count.fract() == 0.0 && *count >= 0.0)
        .ok_or_else(|| Problem(Some(line), format!("`{text}` is not the length of a {what}"), COUNTS))?;
    tokens(line, what, read as u64)
}

/// At least one token: a request without a prompt or an answer is still a request.
fn tokens(line: usize, what: &str, tokens: u64) -> Result<u32, Problem> {
    let fits = Some(tokens).filter(|tokens| *tokens <= MOST_TOKENS).and_then(|tokens| u32::try_from(tokens).ok());
    fits.map(|tokens| tokens.max(1)).ok_or_else(|| {
        Problem(Some(line), format!("the {what} has {tokens} tokens, more than any model takes"), COUNTS)
    })
}

/// A time from the beginning, in units of so many microseconds.
fn seconds(text: &str, unit_us: f64) -> Option<Micros> {
    let time: f64 = text.parse().ok()?;
    (time.is_finite() && time >= 0.0).then(|| Micros((time * unit_us).round() as u64))
}

/// `2023-11-16 18:15:46.6805900`, with or without an offset from UTC; since 1970.
fn date(text: &str) -> Option<Micros> {
    let (day, time) = text.split_once([' ', 'T'])?;
    let mut parts = day.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let time = time.trim_end_matches('Z').split('+').next()?;
    let mut parts = time.splitn(3, ':');
    let (hours, minutes): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let seconds: f64 = parts.next()?.parse().ok()?;
    let in_range = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hours < 24
        && minutes < 60
        && (0.0..61.0).contains(&seconds);
    in_range.then(|| {
        let whole_s = (days_since_1970(year, month, day) * 24 + hours) * 3600 + minutes * 60;
        Micros(whole_s * 1_000_000 + (seconds * 1e6).round() as u64)
    })
}

/// Days of the proleptic Gregorian calendar, years counted from March so that the leap day comes last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests;
