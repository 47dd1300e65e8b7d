//! The gateway's accounts: fed by every request that ends, turned into prices each second, kept on disk so that a restart
//! forgets no month's spend.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pointsman_backends::accounts::{Accounts, Entry, Priced, Statement, Terms};
use pointsman_policies::fleet::EndpointState;
use pointsman_policies::units::Micros;
use tokio::time::MissedTickBehavior;

use late::Late;

use crate::config::write::replace;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::snapshot::Snapshot;

/// What a process books that has handed its accounts on.
mod late;

/// The file in the folder of the process's state.
const FILE: &str = "accounts.json";
/// Largest file that is read, bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Prices follow what happens this often.
pub const EVERY: Micros = Micros::from_secs(1);
/// The file is written every so many times; a process that is killed loses no more.
const SAVED_EVERY: u32 = 5;

/// What was spent, served and drawn.
#[derive(Debug)]
pub struct Accounting {
    accounts: Mutex<Accounts>,
    saved: Mutex<Accounts>,
    statement: ArcSwap<Statement>,
    file: PathBuf,
    /// Since a successor keeps the file.
    late: Mutex<Option<Late>>,
}

impl Accounting {
    /// Goes on from what was saved in a folder. What cannot be read is told, set aside, and counted anew.
    pub fn open(folder: &Path) -> Accounting {
        let file = folder.join(FILE);
        let accounts = match read(&file) {
            Ok(accounts) => accounts,
            Err(error) => {
                let aside = file.with_extension("unread.json");
                let _ = fs::rename(&file, &aside);
                let (file, aside) = (file.display(), aside.display());
                tracing::warn!("cannot read `{file}`: {error}; spend is counted anew, the file is at `{aside}`");
                Accounts::default()
            }
        };
        let saved = Mutex::new(accounts.clone());
        let (accounts, late) = (Mutex::new(accounts), Mutex::default());
        Accounting { accounts, saved, statement: ArcSwap::default(), file, late }
    }

    /// Books a request that has ended.
    pub fn book(&self, record: &Record) {
        let Some((usage, decision)) = record.usage.zip(record.decision.as_ref()) else { return };
        let pools = &decision.snapshot.portfolio.facts;
        let place = |name: &str| pools.iter().position(|pool| *pool.name == *name);
        let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
        let (mut said, mut others_usd) = (0, 0.0);
        // Each of several machines read the prompt and what was said before it, and is owed for it.
        for (attempt, part) in record.attempts.iter().filter_map(|attempt| Some((attempt, attempt.continued?))) {
            said += part.output_tokens;
            others_usd += part.usd;
            let Some(pool) = place(&attempt.pool) else { continue };
            let entry = Entry { tokens: usage.input_tokens.saturating_add(said), usd: part.usd, joules: 0.0 };
            self.enter(unix(), &decision.snapshot.terms(), pool, &entry);
        }
        // Nobody, where all had been said when the last stream broke.
        let Some(pool) = record.endpoint().and_then(|attempt| place(&attempt.pool)) else { return };
        let entry = Entry { tokens, usd: record.usd - others_usd, joules: record.joules.unwrap_or(0.0) };
        self.enter(unix(), &decision.snapshot.terms(), pool, &entry);
    }

    fn enter(&self, now: Micros, terms: &Terms<'_>, pool: usize, entry: &Entry) {
        let mut accounts = self.accounts.lock();
        accounts.book(now, terms, pool, entry);
        let name = terms.portfolio.facts.get(pool).map(|facts| &facts.name);
        if let (Some(late), Some(name)) = (self.late.lock().as_mut(), name) {
            late.add(name, entry);
        }
    }

    /// Lets decisions know what follows; `now` is the fleet's time.
    pub fn publish(&self, snapshot: &Snapshot, now: Micros) {
        let endpoints = snapshot.endpoint_states(now);
        let statement = publish(&mut self.accounts.lock(), snapshot, &endpoints, unix());
        self.statement.store(Arc::new(statement));
    }

    /// The accounts as of the last second.
    pub fn statement(&self) -> Arc<Statement> {
        self.statement.load_full()
    }

    /// Writes the file where anything has changed. Blocks.
    pub fn save(&self) -> io::Result<()> {
        let mut saved = self.saved.lock();
        if self.late.lock().is_some() {
            return Ok(()); // a successor keeps it
        }
        let accounts = self.accounts.lock().at_rest();
        self.write(&mut saved, accounts)
    }

    /// Writes the file for a successor, which keeps it from then on. Blocks.
    pub fn hand_on(&self) -> io::Result<()> {
        let mut saved = self.saved.lock();
        let accounts = self.accounts.lock();
        *self.late.lock() = Some(Late::default()); // what is booked from here on is not in the file
        let at_rest = accounts.at_rest();
        drop(accounts);
        self.write(&mut saved, at_rest)
    }

    /// The successor did not take over.
    pub fn take_back(&self) {
        *self.late.lock() = None;
    }

    /// Leaves to the successor what was booked since it took over, or since the last time. Blocks.
    pub fn leave(&self) -> io::Result<()> {
        let Some(late) = self.late.lock().as_mut().map(std::mem::take) else { return Ok(()) };
        let left = late.leave(&self.file, unix());
        if let (Err(_), Some(kept)) = (&left, self.late.lock().as_mut()) {
            kept.add_all(&late); // for the next time
        }
        left
    }

    /// Books what processes before have left. Blocks.
    pub fn collect(&self, now: Micros, terms: &Terms<'_>) -> io::Result<()> {
        for (name, entry) in late::left(&self.file)? {
            match terms.portfolio.facts.iter().position(|facts| facts.name == name) {
                Some(pool) => self.enter(now, terms, pool, &entry),
                None => {
                    tracing::warn!("the pool `{name}` is gone, ${:.6} that were spent there are not counted", entry.usd)
                }
            }
        }
        Ok(())
    }

    fn write(&self, saved: &mut Accounts, accounts: Accounts) -> io::Result<()> {
        if *saved == accounts || accounts.is_empty() {
            return Ok(());
        }
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        replace(&self.file, &serde_json::to_vec(&accounts)?)?;
        *saved = accounts;
        Ok(())
    }

    /// Publishes and saves until it is dropped.
    pub async fn tend(gateway: Arc<Gateway>) {
        let mut tick = tokio::time::interval(Duration::from_micros(EVERY.0));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut complained = false;
        for round in 1_u32.. {
            tick.tick().await;
            gateway.accounting().publish(&gateway.snapshot(), gateway.fleet().now());
            if !round.is_multiple_of(SAVED_EVERY) {
                continue;
            }
            let saving = Arc::clone(&gateway);
            let save = move || {
                let (accounting, snapshot) = (saving.accounting(), saving.snapshot());
                accounting.collect(unix(), &snapshot.terms()).and(accounting.save())
            };
            let saved = tokio::task::spawn_blocking(save).await;
            if let Ok(Err(error)) = saved
                && !std::mem::replace(&mut complained, true)
            {
                tracing::warn!("what is spent will be forgotten by a restart: {error}");
            }
        }
    }
}

/// Moves the accounts on and lets a snapshot's decisions know; `unix` counts from 1970. For the gateway in real time and
/// the simulation in virtual time.
pub fn publish(accounts: &mut Accounts, snapshot: &Snapshot, endpoints: &[EndpointState], unix: Micros) -> Statement {
    let Priced { prices, used, statement } = accounts.tick(unix, &snapshot.terms(), endpoints);
    let learned = snapshot.learned();
    if learned.prices != prices || learned.used != used {
        snapshot.learn(|learned| (learned.prices, learned.used) = (prices.clone(), used.clone()));
    }
    statement
}

impl Snapshot {
    /// What accounts are kept by.
    pub fn terms(&self) -> Terms<'_> {
        Terms { portfolio: &self.portfolio, policy: &self.policy }
    }
}

fn read(file: &Path) -> io::Result<Accounts> {
    let mut text = Vec::new();
    match fs::File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Accounts::default()),
        opened => opened?.take(MAX_BYTES).read_to_end(&mut text)?,
    };
    let accounts = serde_json::from_slice(&text).map_err(io::Error::other)?;
    Accounts::loaded(accounts).ok_or_else(|| io::Error::other("another version wrote it"))
}

/// Now, since 1970.
fn unix() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
