//! What the filter language says, and what it is told where it says nothing.

use super::field::{BEINGS, Field, field, field_names};
use super::parse::parse;
use crate::traffic::names::{Column, Names};
use crate::traffic::row::tests::row;
use crate::traffic::row::{Mark, Row, Slo};

fn example(names: &mut Names) -> Row {
    let named = [
        (Column::Class, "interactive"),
        (Column::Pool, "gpu"),
        (Column::Endpoint, "gpu/10.0.0.1:80"),
        (Column::Model, "gpt-oss-120b"),
        (Column::Tenant, "Acme Corp"),
    ];
    row(names, &named, |row| {
        (row.trace_id, row.status, row.slo) =
            (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 503, Slo::Missed as u8 | 1 << 2);
        (row.ttft_ms, row.total_ms, row.output_tokens, row.unix_ms) = (400.0, 2_000.0, 2_500, 1_700_000_000_123);
        (row.marks, row.attempts) = (Mark::Stream as u8 | Mark::Held as u8, 2);
    })
}

#[track_caller]
fn check(filter: &str, expected: bool) {
    let mut names = Names::default();
    let row = example(&mut names);
    let bound = parse(filter).unwrap_or_else(|report| panic!("{}", report.render(false))).bind(&names);
    assert_eq!(bound.is_met_by(&row, || false), expected, "{filter}");
}

#[test]
fn every_term_must_hold() {
    check("", true);
    check("class:interactive slo:miss ttft>300ms status:5xx tout>2k", true);
    check("class:interactive slo:miss ttft>300ms -backend:gpu status:5xx tout>2k", false);
    check("class:interactive class:batch", false);
    check("class:batch,interactive", true);
    check("class:inter", false);
    check("class:INTER*", true);
    check("-class:batch", true);
    check("slo:ttft -slo:itl", true);
    check("slo:deadline,itl", false);
}

#[test]
fn fields_of_every_kind_are_read() {
    check("backend:gpu/10.0.0.1:80", true);
    check("pool:gpu hardware:gpu api:chat outcome:answered stream:yes", true);
    check("hardware:wafer,lpu", false);
    check("tenant:\"acme corp\"", true);
    check("tenant:\"acme\"", false);
    check("status:503 status:500,503 status>=500 status<504", true);
    check("status:4xx", false);
    check("is:error is:retried is:held -is:hedged -is:detail", true);
    check("total=2s ttft<=0.4s ttft>399999us queue=0", true);
    check("itl>0", false);
    check("-itl>0", true);
    check("at>=1700000000123 at<1700000000124", true);
    check("generation:1 attempts=2", true);
}

#[test]
fn the_rest_is_free_text() {
    check("oss-120", true);
    check("-oss-120", false);
    check("\"acme corp\"", true);
    check("0af7651916", true);
    check("0af76", false);
    check("nothing-like-it", false);
    check("gpu/10.0", true);
}

#[test]
fn a_request_id_is_found_by_all_of_it() {
    let mut names = Names::default();
    let row = row(&mut names, &[], |row| row.id_hash = xxhash_rust::xxh3::xxh3_64(b"req_1"));
    let bound = |text: &str| parse(text).unwrap().bind(&names).is_met_by(&row, || false);
    assert!(bound("req_1") && !bound("req_"));
}

#[test]
fn mistakes_are_told_all_at_once_with_their_place() {
    let text = "clas:x slo:mis ttft>3parsecs class>3 status:abc -is:hegded tout>many model: \"open";
    let report = parse(text).unwrap_err();
    insta::assert_snapshot!(report.render_within(false, 100));
}

#[test]
fn what_is_too_long_is_refused() {
    assert!(parse(&"x".repeat(super::MOST_BYTES + 1)).is_err());
    assert!(parse(&"x ".repeat(super::MOST_TERMS)).is_ok());
    assert!(parse(&"x ".repeat(super::MOST_TERMS + 1)).is_err());
}

#[test]
fn every_name_is_a_field_and_every_mark_can_be_asked_for() {
    assert!(field_names().all(|name| field(name).is_some() && name == name.to_lowercase()));
    assert_eq!(field("e2e"), field("total"));
    assert!(matches!(field("is"), Some(Field::Is)));
    let marks = [Mark::Stream, Mark::Hedged, Mark::Continued, Mark::Held, Mark::Canary, Mark::Asked, Mark::Disagreed];
    assert!(marks.into_iter().all(|mark| BEINGS.iter().any(|(_, being)| *being == Ok(mark))));
}
