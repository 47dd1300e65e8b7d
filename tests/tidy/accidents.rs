//! The page of others' accidents: every row names tests, and every test that is named is there. What no test can show is
//! kept here as well: there is no database that a query could be smuggled into.

use std::collections::BTreeMap;

use crate::tree::{File, bites, files, is_rust, keep};

const PAGE: &str = "tests/README.md";
/// Crates that speak SQL.
const SQL: [&str; 8] =
    ["rusqlite", "libsqlite3-sys", "sqlx", "diesel", "postgres", "tokio-postgres", "mysql", "duckdb"];

/// What stands between backticks and has `::` in it.
fn named(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|code| code.rsplit_once("::"))
}

/// Rows of tables, without their heads.
fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| accident"))
}

fn untold(page: &File, tests: &BTreeMap<String, String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for row in rows(&page.text) {
        if named(row).next().is_none() {
            complaints.push(format!("`{row}` names no test, `FILE::NAME`"));
        }
    }
    for (file, name) in named(&page.text) {
        match tests.get(file) {
            None => complaints.push(format!("`{file}` is not there")),
            Some(text) if !text.contains(&format!("fn {name}(")) => {
                complaints.push(format!("`{name}` is not in {file}"))
            }
            Some(_) => {}
        }
    }
    complaints
}

fn databases(lock: &File) -> Vec<String> {
    let known = |name: &&&str| lock.text.contains(&format!("name = \"{name}\"\n"));
    SQL.iter().filter(known).map(|name| format!("`{name}` speaks SQL: see the row on queries in {PAGE}")).collect()
}

#[test]
fn every_rule_bites() {
    let tests = BTreeMap::from([("tests/it/a.rs".to_owned(), "fn is_there() {}".to_owned())]);
    let rule = |file: &File| untold(file, &tests);
    bites(
        rule,
        PAGE,
        "| accident | seen in | test |\n|---|---|---|\n| it broke | x#1 | `tests/it/a.rs::is_there` |",
        0,
    );
    bites(rule, PAGE, "| it broke | x#1 | `tests/it/a.rs::is_not` |", 1);
    bites(rule, PAGE, "| it broke | x#1 | `tests/it/b.rs::is_there` |", 1);
    bites(rule, PAGE, "| it broke | x#1 | none |", 1);
    bites(databases, "Cargo.lock", "[[package]]\nname = \"sqlx\"\nversion = \"1\"\n", 1);
    bites(databases, "Cargo.lock", "[[package]]\nname = \"sqlparser-of-nothing\"\n", 0);
}

#[test]
fn every_accident_names_tests_that_are_there() {
    let tests = files(is_rust).into_iter().map(|file| (file.path, file.text)).collect();
    let pages = files(|path| path == PAGE);
    assert!(rows(&pages[0].text).count() >= 20, "the page has lost rows");
    keep(&pages, |page| untold(page, &tests));
}

#[test]
fn there_is_no_database_to_smuggle_a_query_into() {
    keep(&files(|path| path == "Cargo.lock"), databases);
}
