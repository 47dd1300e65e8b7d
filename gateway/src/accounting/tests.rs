//! What is on disk, and what becomes of it.

use std::path::Path;

use pointsman_backends::portfolio::{Portfolio, Secrets, load};
use pointsman_policies::language::{Source, compile};
use pointsman_policies::policy::Policy;
use tempfile::TempDir;

use super::*;

const PORTFOLIO: &str = "[pool.gpu]\nhardware = \"h100\"\nendpoints = [\"http://a:1\"]\n[pool.gpu.model.m]\n";
const NOON: Micros = Micros::from_secs(1_785_585_600);

fn files() -> (Portfolio, Policy) {
    let portfolio = load(Source::new("p", PORTFOLIO), Path::new("."), Secrets::Optional).0.expect("a portfolio");
    let policy = compile(Source::new("t", "[limits]\nusd_per_day = 10\n"), &portfolio.facts).0.expect("a policy");
    (portfolio, policy)
}

#[test]
fn a_process_goes_on_where_the_last_one_ended() {
    let folder = TempDir::new().unwrap();
    let (portfolio, policy) = files();
    let terms = Terms { portfolio: &portfolio, policy: &policy };
    let first = Accounting::open(folder.path());
    first.save().unwrap();
    assert!(!folder.path().join(FILE).exists(), "nothing to remember, no file");
    first.accounts.lock().book(NOON, &terms, 0, &Entry { tokens: 1_000, usd: 2.5, joules: 7.0 });
    first.save().unwrap();
    let second = Accounting::open(folder.path());
    let statement = second.accounts.lock().tick(NOON, &terms, &portfolio.idle()).statement;
    assert_eq!((statement.budgets[0].spent_usd, statement.pools[0].tokens_this_month), (2.5, 1_000.0));
}

/// The successor counts what its predecessor books while it drains, once, and nothing twice.
#[test]
fn what_is_booked_after_the_accounts_were_handed_on_reaches_the_successor() {
    let folder = TempDir::new().unwrap();
    let (portfolio, policy) = files();
    let terms = Terms { portfolio: &portfolio, policy: &policy };
    let entry = |usd: f64| Entry { tokens: 1_000, usd, joules: 7.0 };
    let spent = |accounting: &Accounting| {
        let statement = accounting.accounts.lock().tick(NOON, &terms, &portfolio.idle()).statement;
        (statement.budgets[0].spent_usd, statement.pools[0].tokens_this_month)
    };
    let first = Accounting::open(folder.path());
    first.enter(NOON, &terms, 0, &entry(2.5));
    first.hand_on().unwrap();
    first.enter(NOON, &terms, 0, &entry(1.0));
    first.save().unwrap();
    let second = Accounting::open(folder.path());
    assert_eq!(spent(&second), (2.5, 1_000.0), "who has handed them on writes them no more");
    second.enter(NOON, &terms, 0, &entry(4.0));
    second.collect(NOON, &terms).unwrap();
    assert_eq!(spent(&second), (6.5, 2_000.0), "nothing was left yet");
    first.enter(NOON, &terms, 0, &entry(0.5));
    first.leave().unwrap();
    for _ in 0..2 {
        second.collect(NOON, &terms).unwrap();
        assert_eq!(spent(&second), (8.0, 4_000.0));
    }
    first.save().unwrap();
    first.leave().unwrap();
    second.collect(NOON, &terms).unwrap();
    assert_eq!(spent(&second), (8.0, 4_000.0), "nothing more was spent");
    first.enter(NOON, &terms, 0, &entry(0.25));
    let aside = folder.path().with_extension("aside");
    std::fs::rename(folder.path(), &aside).unwrap();
    assert!(first.leave().is_err(), "there is no folder to leave it in");
    std::fs::rename(&aside, folder.path()).unwrap();
    first.leave().unwrap();
    second.collect(NOON, &terms).unwrap();
    assert_eq!(spent(&second), (8.25, 5_000.0), "what could not be left is left the next time");
    second.save().unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the accounts and nothing else");
    std::fs::write(folder.path().join("accounts.late-7-7.json"), "{ half").unwrap();
    std::fs::create_dir(folder.path().join("accounts.late-7-8.json")).unwrap();
    first.enter(NOON, &terms, 0, &entry(0.25));
    first.leave().unwrap();
    second.collect(NOON, &terms).unwrap();
    assert_eq!(spent(&second), (8.5, 6_000.0), "what cannot be read keeps nothing else from being counted");
    second.save().unwrap();
    assert_eq!(spent(&Accounting::open(folder.path())), (8.5, 6_000.0));
}

#[test]
fn where_no_successor_came_the_accounts_are_kept_as_before() {
    let folder = TempDir::new().unwrap();
    let (portfolio, policy) = files();
    let terms = Terms { portfolio: &portfolio, policy: &policy };
    let first = Accounting::open(folder.path());
    first.hand_on().unwrap();
    first.enter(NOON, &terms, 0, &Entry { tokens: 1_000, usd: 2.5, joules: 7.0 });
    first.take_back();
    first.save().unwrap();
    let second = Accounting::open(folder.path());
    second.collect(NOON, &terms).unwrap();
    let statement = second.accounts.lock().tick(NOON, &terms, &portfolio.idle()).statement;
    assert_eq!(statement.budgets[0].spent_usd, 2.5);
}

#[test]
fn what_cannot_be_read_is_set_aside_and_not_overwritten() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join(FILE), "{ half").unwrap();
    let accounting = Accounting::open(folder.path());
    assert!(accounting.accounts.lock().is_empty());
    let aside = folder.path().join("accounts.unread.json");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "{ half");
}
