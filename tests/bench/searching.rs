//! Filters and contrasts over as many requests as are kept, and what keeping costs.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pointsman::record::Record;
use pointsman::traffic::contrast::contrast;
use pointsman::traffic::filter::parse;
use pointsman::traffic::names::{COLUMNS, Column, Names};
use pointsman::traffic::ring::{DEFAULT_ROWS, Ring};
use pointsman::traffic::rollup::{AllGpu, Rollups};
use pointsman::traffic::row::{Row, Slo};
use pointsman::traffic::{Room, Traffic};
use pointsman_policies::facts::Api;

use crate::large::Chance;
use crate::measure::{report, times};

/// A filter of every kind of term.
const EVERYTHING: &str = "class:interactive slo:miss ttft>300ms -backend:gpu/3 status:2xx tout>100 oss";

pub(crate) fn searching(yardstick: Duration) {
    let (mut names, mut ring, mut chance) = (Names::default(), Ring::new(DEFAULT_ROWS), Chance(5));
    for seq in 0..DEFAULT_ROWS as u64 {
        ring.push(row(seq, &mut names, &mut chance));
    }
    for (told, text) in
        [("everything", ""), ("one term", "ttft>300ms"), ("seven terms", EVERYTHING), ("free text", "acme")]
    {
        let filter = parse(text).expect("a filter");
        let calls = times(100, || {
            let bound = filter.bind(&names);
            black_box(ring.newest_before(u64::MAX).filter(|(_, row)| bound.is_met_by(row, || false)).count());
        });
        report(&format!("{DEFAULT_ROWS} requests filtered by {told}"), calls, yardstick);
    }
    let (base, selection) = (parse("").expect("a filter"), parse("ttft>900ms").expect("a filter"));
    let calls = times(50, || {
        let bound = (&base.bind(&names), &selection.bind(&names));
        black_box(contrast(&ring, &names, bound, &|_| false));
    });
    report(&format!("{DEFAULT_ROWS} requests contrasted"), calls, yardstick);
    let (mut rollups, mut seq) = (Rollups::default(), 0);
    let calls = times(50_000, || {
        seq += 1;
        rollups.add(&row(seq, &mut names, &mut chance), AllGpu { usd: Some(0.1), joules: Some(10.0) });
    });
    report("a request summed up", calls, yardstick);
    let blank = Record::blank(Instant::now(), SystemTime::UNIX_EPOCH);
    let record = Arc::new(Record { api: Some(Api::ChatCompletions), ..blank });
    let traffic = Traffic::new(Room::default());
    report("a request laid down by the data path", times(8_000, || traffic.ended(&record)), yardstick);
}

fn row(seq: u64, names: &mut Names, chance: &mut Chance) -> Row {
    let mut pick = |column, of: &[&str]| names.number(column, of[chance.below(of.len())]);
    let mut numbers = [0; COLUMNS];
    let endpoints = ["gpu/1", "gpu/2", "gpu/3", "wafer/1", "cpu/1"];
    numbers[Column::Class as usize] = pick(Column::Class, &["realtime", "interactive", "standard", "batch"]);
    numbers[Column::Endpoint as usize] = pick(Column::Endpoint, &endpoints);
    numbers[Column::Model as usize] = pick(Column::Model, &["gpt-oss-120b", "llama-70b"]);
    numbers[Column::Tenant as usize] = pick(Column::Tenant, &["acme", "umbrella", "initech"]);
    let ttft_ms = 50.0 + chance.below(1_000) as f32;
    Row {
        trace_id: u128::from(chance.number()),
        unix_ms: 1_764_576_000_000 + seq,
        id_hash: chance.number(),
        usd: 0.001,
        joules: 400.0,
        queue_ms: 0.0,
        ttft_ms,
        itl_ms: 10.0,
        total_ms: ttft_ms + 2_000.0,
        input_tokens: 100 + chance.below(10_000) as u32,
        cached_tokens: 0,
        output_tokens: chance.below(1_000) as u32,
        generation: 1,
        names: numbers,
        status: 200,
        attempts: 1,
        outcome: 0,
        kind: 1,
        api: 1,
        marks: 0,
        slo: if ttft_ms > 900.0 { Slo::Missed as u8 } else { Slo::Kept as u8 },
    }
}
