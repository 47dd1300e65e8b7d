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

#[test]
fn what_cannot_be_read_is_set_aside_and_not_overwritten() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join(FILE), "{ half").unwrap();
    let accounting = Accounting::open(folder.path());
    assert!(accounting.accounts.lock().is_empty());
    let aside = folder.path().join("accounts.unread.json");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "{ half");
}
