//! What a selection of requests has more of than the rest: every value of every column, counted once on each side.

use serde::Serialize;

use super::filter::Bound;
use super::names::{Column, Names};
use super::ring::Ring;
use super::row::{APIS, KINDS, Mark, OUTCOMES, Row};

/// Values that are told.
const MOST_VALUES: usize = 40;
/// Standard deviations by which a share has to be larger to be told: less comes about by chance.
const LEAST_SCORE: f64 = 2.0;

/// What a selection has more of.
#[derive(Debug, Serialize)]
pub struct Contrast {
    /// Requests of the selection.
    pub selected: u64,
    /// The others.
    pub rest: u64,
    /// Values, the most telling first.
    pub values: Vec<ValueContrast>,
}

/// One value of one field.
#[derive(Debug, Serialize)]
pub struct ValueContrast {
    field: &'static str,
    value: String,
    selected: u32,
    rest: u32,
    selected_share: f64,
    rest_share: f64,
    /// How many times as frequent; `null` where the rest has none.
    lift: Option<f64>,
    /// Standard deviations between the shares.
    score: f64,
    /// The term that filters by it.
    filter: String,
}

/// Counts of one field: in the selection, in the rest.
type Counts = Vec<(u32, u32)>;

fn count(counts: &mut Counts, number: usize, selected: bool) {
    if number >= counts.len() {
        counts.resize(number + 1, (0, 0));
    }
    if let Some((inside, outside)) = counts.get_mut(number) {
        if selected { *inside += 1 } else { *outside += 1 }
    }
}

/// Compares those of `base` that are in `selection` with those that are not.
pub fn contrast(
    rows: &Ring,
    names: &Names,
    (base, selection): (&Bound, &Bound),
    detailed: &dyn Fn(u64) -> bool,
) -> Contrast {
    let mut named = Column::ALL.map(|_| Counts::new());
    let mut words = WORDS.map(|_| Counts::new());
    let (mut selected, mut rest) = (0_u64, 0_u64);
    for (seq, row) in rows.from(0) {
        if !base.is_met_by(row, || detailed(seq)) {
            continue;
        }
        let inside = selection.is_met_by(row, || detailed(seq));
        if inside {
            selected += 1
        } else {
            rest += 1
        }
        for (number, counts) in row.names.iter().zip(&mut named) {
            count(counts, usize::from(*number), inside);
        }
        for ((_, number, _), counts) in WORDS.iter().zip(&mut words) {
            count(counts, number(row), inside);
        }
    }
    let sides = (selected, rest);
    let of_names = Column::ALL.into_iter().zip(&named).flat_map(|(column, counts)| {
        values(column.as_str(), counts, sides, |number| names.of(column).get(number).map(ToString::to_string))
    });
    let of_words = WORDS.iter().zip(&words).flat_map(|((field, _, word), counts)| values(field, counts, sides, *word));
    let mut values: Vec<ValueContrast> = of_names.chain(of_words).collect();
    values.sort_by(|one, other| other.score.total_cmp(&one.score));
    values.truncate(MOST_VALUES);
    Contrast { selected, rest, values }
}

/// Fields of few values: name, number of a row's value, the value of a number.
type Worded = (&'static str, fn(&Row) -> usize, fn(usize) -> Option<String>);

const WORDS: [Worded; 10] = [
    ("hardware", |row| row.kind.into(), |number| word(&KINDS, number)),
    ("api", |row| row.api.into(), |number| word(&APIS, number)),
    ("outcome", |row| row.outcome.into(), |number| word(&OUTCOMES, number)),
    ("slo", |row| row.slo() as usize, |number| word(&["kept", "miss", "none"], number)),
    ("status", |row| row.status.into(), |number| Some(number.to_string())),
    ("generation", |row| row.generation.min(GENERATIONS) as usize, |number| Some(number.to_string())),
    ("stream", |row| row.is(Mark::Stream).into(), |number| word(&["no", "yes"], number)),
    ("is:held", |row| row.is(Mark::Held).into(), |number| (number == 1).then(String::new)),
    ("is:hedged", |row| row.is(Mark::Hedged).into(), |number| (number == 1).then(String::new)),
    ("is:retried", |row| (row.attempts > 1).into(), |number| (number == 1).then(String::new)),
];

/// Later generations are counted as one, so that a long-lived process does not grow the count.
const GENERATIONS: u32 = 10_000;

fn word(words: &[&str], number: usize) -> Option<String> {
    words.get(number).filter(|word| !word.is_empty()).map(|word| (*word).to_owned())
}

fn values(
    field: &'static str,
    counts: &Counts,
    (selected, rest): (u64, u64),
    value: impl Fn(usize) -> Option<String>,
) -> Vec<ValueContrast> {
    let told = counts.iter().enumerate().filter_map(|(number, (inside, outside))| {
        let score = score((*inside).into(), selected, (*outside).into(), rest);
        if *inside == 0 || score < LEAST_SCORE {
            return None;
        }
        let value = value(number).filter(|value| field.contains(':') || !value.is_empty())?;
        let share = |count: u32, of: u64| f64::from(count) / of.max(1) as f64;
        let (selected_share, rest_share) = (share(*inside, selected), share(*outside, rest));
        Some(ValueContrast {
            field,
            filter: term(field, &value),
            value,
            selected: *inside,
            rest: *outside,
            selected_share,
            rest_share,
            lift: (*outside > 0).then(|| selected_share / rest_share),
            score,
        })
    });
    told.collect()
}

/// How many standard deviations the share inside is above the one outside, were both drawn from the same.
fn score(inside: u64, selected: u64, outside: u64, rest: u64) -> f64 {
    if selected == 0 || rest == 0 {
        return 0.0;
    }
    let (selected, rest) = (selected as f64, rest as f64);
    let pooled = (inside + outside) as f64 / (selected + rest);
    let deviation = (pooled * (1.0 - pooled) * (1.0 / selected + 1.0 / rest)).sqrt();
    if deviation > 0.0 { (inside as f64 / selected - outside as f64 / rest) / deviation } else { 0.0 }
}

fn term(field: &str, value: &str) -> String {
    match field {
        field if field.contains(':') => field.to_owned(),
        field if value.contains([' ', ',', '"']) || value.ends_with('*') => format!("{field}:\"{value}\""),
        field => format!("{field}:{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::parse;
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn what_is_over_represented_comes_first_with_the_term_that_filters_by_it() {
        let mut names = Names::default();
        let mut rows = Ring::new(1_000);
        for seq in 0..1_000 {
            let slow = seq % 10 == 0;
            let endpoint = if slow || seq % 50 == 1 { "gpu/1" } else { "gpu/2" };
            let tenant = if seq % 2 == 0 { "a" } else { "b c" };
            let named = [(Column::Endpoint, endpoint), (Column::Tenant, tenant)];
            rows.push(row(&mut names, &named, |row| row.ttft_ms = if slow { 900.0 } else { 100.0 }));
        }
        let bound = |text: &str| parse(text).unwrap().bind(&names);
        let told = contrast(&rows, &names, (&bound(""), &bound("ttft>500ms")), &|_| false);
        assert_eq!((told.selected, told.rest), (100, 900));
        let first = &told.values[0];
        assert_eq!(
            (first.field, first.filter.as_str(), first.selected, first.rest),
            ("endpoint", "endpoint:gpu/1", 100, 20)
        );
        assert!(told.values.iter().all(|value| value.selected_share > value.rest_share));
        assert!(told.values.iter().any(|value| value.filter == "tenant:a"), "all of the slow ones are even");
        let none = contrast(&rows, &names, (&bound(""), &bound("ttft>9s")), &|_| false);
        assert!(none.values.is_empty() && none.selected == 0);
        assert_eq!(term("tenant", "b c"), "tenant:\"b c\"");
    }
}
