//! What has passed, as operators look at it: a row of every request, whole requests as far as there is room, sums by moment.
//! The data path only lays records down; whoever looks, or a task five times a second, enters them into the books.

/// Names by number.
pub mod names;
/// One request in 96 bytes.
pub mod row;
/// The last rows.
pub mod ring;
/// The language in which requests are asked for.
pub mod filter;
/// What a selection has more of than the rest.
pub mod contrast;
/// Quantiles in few bytes.
pub mod sketch;
/// Sums by moment.
pub mod rollup;
/// Sums for people.
pub mod summary;
/// Whole requests.
pub mod detail;
/// Where a request's time went.
pub mod waterfall;
/// States of endpoints.
pub mod strip;
/// What is told to those who watch.
pub mod feed;
/// Who keeps the books.
pub mod tend;

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use pointsman_policies::fleet::HardwareKind;
use pointsman_policies::power::joules;

use crate::record::{DecisionRecord, Record};
use detail::{Because, Details, Seen};
use feed::Feed;
use names::{Column, Names};
use ring::Ring;
use rollup::{AllGpu, Rollups};
use row::{Mark, Row, RowView, Slo};
use strip::Strips;

/// Records that wait to be entered. Where the task that does it is behind by so many, those who bring more enter them
/// themselves: a sum that misses some would be worse than a late answer.
const MOST_WAITING: usize = 8_192;

/// Requests between two looks at what is to be traced after all; a receiver of traces is sent less than that.
const MOST_NOTABLE: usize = 256;

/// Disagreements of a shadow that are marked at one look: each is looked for among the whole requests.
const MOST_DISAGREED: usize = 16;

/// What has passed.
#[derive(Debug)]
pub struct Traffic {
    is_kept: bool,
    waiting: Mutex<Vec<Arc<Record>>>,
    disagreed: Mutex<Vec<Arc<DecisionRecord>>>,
    books: Mutex<Books>,
    /// What is told to those who watch.
    pub feed: Feed,
}

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Rows.
    pub rows: usize,
    /// Whole requests, bytes.
    pub detail_bytes: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room { rows: ring::DEFAULT_ROWS, detail_bytes: detail::DEFAULT_BYTES }
    }
}

/// Everything that can be looked up.
#[derive(Debug)]
pub struct Books {
    /// Names that rows refer to.
    pub names: Names,
    /// A row of every request.
    pub rows: Ring,
    /// Whole requests.
    pub details: Details,
    /// Sums.
    pub rollups: Rollups,
    /// States of endpoints.
    pub strips: Strips,
    /// What is kept for a reason, since somebody took it to be traced.
    notable: Vec<Arc<Record>>,
}

impl Traffic {
    /// With room for so much.
    pub fn new(room: Room) -> Traffic {
        let books = Books {
            names: Names::default(),
            rows: Ring::new(room.rows),
            details: Details::new(room.detail_bytes),
            rollups: Rollups::default(),
            strips: Strips::default(),
            notable: Vec::new(),
        };
        Traffic {
            is_kept: room.rows > 0,
            waiting: Mutex::default(),
            disagreed: Mutex::default(),
            books: Mutex::new(books),
            feed: Feed::default(),
        }
    }

    /// A request that asked for work has ended.
    pub fn ended(&self, record: &Arc<Record>) {
        if record.api.is_none() || !self.is_kept {
            return;
        }
        let behind = {
            let mut waiting = self.waiting.lock();
            waiting.push(Arc::clone(record));
            waiting.len() > MOST_WAITING
        };
        if behind {
            drop(self.books());
        }
    }

    /// A shadow would have done something else. Some of those are marked and kept, enough to look at.
    pub fn disagreed(&self, decision: &Arc<DecisionRecord>) {
        let mut disagreed = self.disagreed.lock();
        if disagreed.len() < MOST_DISAGREED {
            disagreed.push(Arc::clone(decision));
        }
    }

    /// The books, with everything in them that has ended by now. Nobody on the data path waits for them, but searches take
    /// milliseconds: off the threads that serve.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        let mut books = self.books.lock();
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let mut forgotten = Vec::new();
        for record in &waiting {
            books.enter(record, &mut forgotten);
        }
        let disagreed = std::mem::take(&mut *self.disagreed.lock());
        disagreed.iter().for_each(|decision| books.mark_disagreed(decision));
        books
    }

    /// Records that wait to be entered.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Whether somebody has the books.
    pub fn is_searched(&self) -> bool {
        self.books.is_locked()
    }

    /// The books as they are, where nobody else has them.
    pub fn try_books(&self) -> Option<MutexGuard<'_, Books>> {
        self.books.try_lock()
    }
}

impl Books {
    fn enter(&mut self, record: &Arc<Record>, forgotten: &mut Vec<Arc<Record>>) {
        let row = Row::of(record, &mut self.names);
        self.rollups.add(&row, all_gpu(record));
        let seq = self.rows.push(row);
        let seen = Seen {
            seq,
            class: row.name(Column::Class),
            waited_ms: f64::from(if row.ttft_ms.is_finite() { row.ttft_ms } else { row.total_ms }),
            is_error: row.is_error(),
            is_missed: row.slo() == Slo::Missed,
            is_asked_for: row.is(Mark::Asked),
        };
        let because = self.details.keep(record, &seen, forgotten);
        if because != Because::Baseline && self.notable.len() < MOST_NOTABLE {
            self.notable.push(Arc::clone(record));
        }
    }

    fn mark_disagreed(&mut self, decision: &Arc<DecisionRecord>) {
        let Some((seq, record)) = self.details.disagreed(decision) else { return };
        if let Some(row) = self.rows.get_mut(seq) {
            row.marks |= Mark::Disagreed as u8;
        }
        if self.notable.len() < MOST_NOTABLE {
            self.notable.push(record);
        }
    }

    /// What was kept for a reason since the last time.
    pub fn take_notable(&mut self) -> Vec<Arc<Record>> {
        std::mem::take(&mut self.notable)
    }

    /// Why a request is kept whole, where it is.
    pub fn why(&self, seq: u64) -> Option<Because> {
        self.details.why(seq)
    }

    /// A row as the admin API shows it.
    pub fn view(&self, seq: u64, row: &Row) -> RowView {
        RowView::of(seq, row, &self.names, self.why(seq))
    }
}

/// What a request would have cost and taken on the cheapest GPU pool that serves its model, by the prices of its generation.
fn all_gpu(record: &Record) -> AllGpu {
    let (Some(usage), Some(decision)) = (record.usage, &record.decision) else { return AllGpu::nothing() };
    let pools = decision.snapshot.portfolio.facts.iter().filter(|pool| pool.kind == HardwareKind::Gpu);
    let priced = pools
        .filter_map(|pool| Some((pool.model(&record.model)?.price.usd(usage.input_tokens, usage.output_tokens), pool)));
    let cheapest = priced.min_by(|(one, _), (other, _)| one.total_cmp(other));
    AllGpu {
        usd: cheapest.map(|(usd, _)| usd),
        joules: cheapest.and_then(|(_, pool)| joules(pool, usage.input_tokens, usage.output_tokens, 0)),
    }
}
