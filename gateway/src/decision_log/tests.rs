//! What is written comes back, whatever happens to the file.

use std::path::PathBuf;
use std::sync::Arc;

use pointsman_policies::facts::{Api, OwnedFacts};
use pointsman_policies::fleet::{Availability, EndpointState, HardwareKind, LeaseState, PoolFacts, ServiceModel};

use pointsman_policies::learned::{Learned, Margin};
use pointsman_policies::price::PoolPrice;

use super::frame::OPENING_BYTES;
use super::writer::{LogFiles, Writer, Written};
use super::*;

pub(crate) fn set(generation: u64) -> Set {
    let service = ServiceModel {
        step_base_ms: 5.0,
        step_per_sequence_ms: 0.1,
        step_per_kv_token_ns: 1.5,
        prefill_tokens_per_s: 20_000.0,
        fixed_ttft_ms: 20.0,
        slots: 8,
        kv_tokens: Some(500_000),
        jitter_sigma: 0.1,
        tokens_per_event: 1.0,
        joules_per_output_token: Some(0.4),
        power_kw: None,
        prefill_weight: 1.0,
    };
    let pool = |name: &str, endpoints: [&str; 2]| PoolFacts {
        name: name.to_owned(),
        site: String::new(),
        vendor: String::new(),
        endpoints: endpoints.map(str::to_owned).to_vec(),
        hardware: "h100".to_owned(),
        kind: HardwareKind::Gpu,
        labels: [("tier".to_owned(), "gold".to_owned())].into(),
        models: Vec::new(),
        service: service.clone(),
        round_trip_ms: 0.3,
        carbon_g_per_kwh: None,
        pue: 1.2,
        usd_per_kwh: None,
        power_cap_kw: None,
    };
    Set {
        number: 0,
        generation,
        hash: format!("{generation:016x}"),
        version: format!("balanced@{generation}"),
        process: String::new(),
        portfolio: "# the machines".to_owned(),
        policy: "name = \"balanced\"\n".repeat(20),
        pools: vec![pool("a", ["a/1", "a/2"]), pool("b", ["b/1", "b/2"])],
    }
}

/// What was learned, a little more each time.
fn learned(number: u64) -> Arc<Learned> {
    let price = PoolPrice { usd_factor: 1.0 + number as f64, ..PoolPrice::default() };
    let margins = HardwareKind::ALL.map(|_| Margin { ttft: 0.8, itl: 0.7 });
    let (services, margins) = (vec![set(1).pools[0].service.clone()], [("voice".to_owned(), margins)].into());
    Arc::new(Learned { services, margins, prices: vec![price], ..Learned::default() })
}

pub(crate) fn decision(number: u64) -> Decision {
    let facts = OwnedFacts {
        api: Api::ChatCompletions,
        path: "/v1/chat/completions".to_owned(),
        headers: vec![("x-agent".to_owned(), "voice".to_owned())],
        tenant: "acme".to_owned(),
        model: "gpt-oss-120b".to_owned(),
        stream: true,
        input_tokens: 100 + number,
        output_tokens: 200,
        session: format!("s{number}"),
        unix_s: 1_764_000_000,
        ..OwnedFacts::default()
    };
    let lease = LeaseState {
        requests: f64::INFINITY,
        tokens: 1e6 - number as f64 / 3.0,
        tokens_capacity: 1e6,
        requests_per_s: 1000.0 / 60.0,
        tokens_per_s: 1e6 / 60.0,
        reserves_output: true,
    };
    let busy = EndpointState { in_flight: 3, context_tokens: 40_000, lease: Some(lease), ..EndpointState::idle(1) };
    let open = EndpointState {
        availability: Availability::BreakerOpen { retry_in_ms: 0.1 + number as f64 },
        ..EndpointState::idle(0)
    };
    Decision {
        set: 0,
        unix_ms: 1_764_000_000_123 + number,
        request_id: if number.is_multiple_of(2) {
            RequestId::Own([7; 16])
        } else {
            RequestId::Given(format!("mine-{number}"))
        },
        trace_id: [number as u8; 16],
        facts,
        busy: vec![(1, open), (2, busy)],
        waiting: Vec::new(),
        learned: (!number.is_multiple_of(3)).then(|| learned(number / 4)),
        draw: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        decided: Decided { class: 1, route: 0, first: Some(3), digest: !number },
        outcome: Outcome {
            ended: Ended::Answered,
            status: 200,
            attempts: 1,
            answered: Some(3),
            ttft_ms: Some(123.5),
            itl_ms: Some(7.25),
            total_ms: 2_000.0,
            tokens: Some((100, 180)),
            usd: 1e-4,
            joules: None,
            judged: 3,
            kept: 1,
            attained: Some(false),
        },
    }
}

fn files(folder: &tempfile::TempDir, max_bytes: u64) -> LogFiles {
    LogFiles { file: folder.path().join("decisions.log"), max_bytes, keep: 3 }
}

/// A log of frames with so many decisions each.
fn write(files: LogFiles, frames: &[u64]) -> Written {
    let mut written = Written::default();
    let mut writer = Writer::open(files).unwrap();
    writer.push_set(set(1), &mut written).unwrap();
    let mut number = 0;
    for count in frames {
        for _ in 0..*count {
            writer.push(&decision(number), &mut written);
            number += 1;
        }
        writer.close_frame(&mut written);
    }
    written
}

#[derive(Debug, Default, PartialEq)]
struct Read {
    sets: Vec<Set>,
    decisions: Vec<Decision>,
    damage: Vec<Damage>,
}

fn read(bytes: &[u8]) -> Read {
    let mut read = Read::default();
    let mut reader = Reader::new(bytes).unwrap();
    while let Some(piece) = reader.read().unwrap() {
        match piece {
            Piece::Set(set) => read.sets.push(*set),
            Piece::Decisions(packed) => packed.decisions(|decision| read.decisions.push(decision)).unwrap(),
            Piece::Damage(damage) => read.damage.push(damage),
        }
    }
    read
}

#[test]
fn what_is_written_comes_back_to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder, 1 << 20);
    let written = write(files.clone(), &[500, 1, 499]);
    let bytes = std::fs::read(&files.file).unwrap();
    assert_eq!((written.decisions, written.lost), (1000, 0));
    assert_eq!(written.bytes as usize, bytes.len());
    let read = read(&bytes);
    assert_eq!((read.sets, read.damage), (vec![set(1)], vec![]));
    assert_eq!(read.decisions, (0..1000).map(decision).collect::<Vec<_>>());
    assert!(bytes.starts_with(b"pointsman decisions 006\n"), "`head -1` says what it is");
    let found = find(&files.file, "mine-601").unwrap().unwrap();
    assert_eq!((found.decision, &*found.set), (decision(601), &set(1)));
    let by_trace = find(&files.file, &"05".repeat(16)).unwrap().unwrap();
    assert_eq!(by_trace.decision, decision(5));
    assert!(find(&files.file, "nobody").unwrap().is_none());
    let mut states = Vec::new();
    decision(0).states(&set(1), &mut states);
    assert_eq!(states[0], EndpointState::idle(0));
    assert_eq!((states[1], states[2]), (decision(0).busy[0].1, decision(0).busy[1].1));
    assert_eq!(states[3], EndpointState::idle(1));
}

#[test]
fn a_file_torn_at_any_byte_gives_every_whole_frame_and_tells_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder, 1 << 20);
    write(files.clone(), &[3, 2, 4]);
    let bytes = std::fs::read(&files.file).unwrap();
    let whole = read(&bytes);
    let mut seen = std::collections::BTreeSet::new();
    for length in OPENING_BYTES..bytes.len() {
        let torn = read(&bytes[..length]);
        let count = torn.decisions.len();
        assert!([0, 3, 5].contains(&count), "{count} at {length}");
        assert_eq!(torn.decisions[..], whole.decisions[..count], "at {length}");
        seen.insert(count);
        let told: u64 = torn.damage.iter().map(|damage| damage.bytes).sum();
        let edges = torn.damage.first().map_or(length as u64, |damage| damage.offset);
        assert_eq!(edges + told, length as u64, "every byte is read or told at {length}");
        assert!(torn.damage.len() <= 1, "at {length}: {:?}", torn.damage);
        assert!(torn.damage.iter().all(|damage| damage.problem == "are torn off"), "at {length}: {:?}", torn.damage);
    }
    assert_eq!(seen.len(), 3, "each frame was lost and was there");
    for length in 0..OPENING_BYTES {
        assert!(Reader::new(&bytes[..length]).is_err(), "at {length}");
    }
}

#[test]
fn a_flipped_bit_anywhere_loses_one_frame_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder, 1 << 20);
    write(files.clone(), &[3, 2, 4]);
    let bytes = std::fs::read(&files.file).unwrap();
    for at in OPENING_BYTES..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let read = read(&flipped);
        let count = read.decisions.len();
        assert!([9, 6, 7, 5].contains(&count), "{count} at {at}");
        assert_eq!(count == 9, read.sets.is_empty(), "at {at}: only the set's frame holds no decision");
        assert_eq!(read.damage.len(), 1, "at {at}: {:?}", read.damage);
    }
}

#[test]
fn a_full_file_is_moved_aside_and_each_can_be_read_alone() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder, 2_000);
    for _ in 0..5 {
        write(files.clone(), &[1]);
    }
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["decisions.log", "decisions.log.1", "decisions.log.2"], "three are kept");
    for name in names {
        let read = read(&std::fs::read(folder.path().join(&name)).unwrap());
        assert_eq!((read.sets.len(), read.decisions.len(), read.damage.len()), (1, 1, 0), "{name}");
    }
}

#[test]
fn a_file_that_is_no_log_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder, 2_000);
    std::fs::write(&files.file, "a letter to somebody").unwrap();
    let error = Writer::open(files.clone()).unwrap_err();
    assert!(error.to_string().contains("no decision log"), "{error}");
    assert_eq!(std::fs::read_to_string(&files.file).unwrap(), "a letter to somebody");
    assert!(Writer::open(LogFiles { file: PathBuf::from("/dev/full"), ..files }).is_err());
}

#[test]
fn files_of_other_versions_are_refused_by_number() {
    let told = |bytes: &[u8]| Reader::new(bytes).unwrap_err().to_string();
    assert_eq!(told(b"pointsman decisions 001\n"), "its format is version 1, this program reads version 6");
    assert_eq!(told(b"something else entirely, not a log"), "it is no decision log");
    assert_eq!(told(b""), "it is no decision log");
}

/// The bytes of an entry are the format. Whoever makes this fail changes what old files mean: raise `frame::VERSION`.
#[test]
fn the_format_stays_what_it_is() {
    let hash = |entry: &[u8]| format!("{:016x}", xxhash_rust::xxh3::xxh3_64(entry));
    let decision = postcard::to_stdvec(&decision(1)).unwrap();
    let set = postcard::to_stdvec(&set(1)).unwrap();
    assert_eq!(
        (frame::VERSION, hash(&decision), hash(&set)),
        (6, "da735ba2d16bd161".to_owned(), "ac68ea80523c2c7d".to_owned())
    );
}
