//! The rows of the last requests, the oldest forgotten first, and what can be asked of them.

use std::collections::VecDeque;

use super::row::Row;

/// Rows that are kept where nothing is said: 19 MB.
pub const DEFAULT_ROWS: usize = 200_000;

/// The last rows. Each has a number that counts from the start of the process.
#[derive(Debug)]
pub struct Ring {
    most: usize,
    rows: VecDeque<Row>,
    first: u64,
}

impl Ring {
    /// Keeps at most so many.
    pub fn new(most: usize) -> Ring {
        Ring { most, rows: VecDeque::new(), first: 0 }
    }

    /// Adds a row; its number.
    pub fn push(&mut self, row: Row) -> u64 {
        if self.rows.len() >= self.most && self.rows.pop_front().is_some() {
            self.first += 1;
        }
        self.rows.push_back(row);
        self.next() - 1
    }

    /// The number that the next row gets, which is how many there were.
    pub fn next(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    /// Rows kept now.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows that are kept at most.
    pub fn capacity(&self) -> usize {
        self.most
    }

    /// Row by number.
    pub fn get(&self, seq: u64) -> Option<&Row> {
        self.rows.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// Row by number, to be marked.
    pub fn get_mut(&mut self, seq: u64) -> Option<&mut Row> {
        self.rows.get_mut(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// The oldest row.
    pub fn oldest(&self) -> Option<&Row> {
        self.rows.front()
    }

    /// Rows with numbers below one, the newest first.
    pub fn newest_before(&self, before: u64) -> impl Iterator<Item = (u64, &Row)> {
        let count = usize::try_from(before.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.rows.len());
        let last = self.first + count as u64;
        self.rows.range(..count).rev().zip(1..).map(move |(row, back)| (last - back, row))
    }

    /// Rows from a number on, the oldest first.
    pub fn from(&self, seq: u64) -> impl Iterator<Item = (u64, &Row)> {
        let skipped = usize::try_from(seq.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.rows.len());
        (self.first + skipped as u64..).zip(self.rows.range(skipped..))
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn numbers_stay_when_the_oldest_go() {
        let (mut ring, mut names) = (Ring::new(3), Names::default());
        for at in 0..5 {
            assert_eq!(ring.push(row(&mut names, &[], |row| row.unix_ms = at)), at);
        }
        let numbers =
            |rows: Vec<(u64, &Row)>| -> Vec<(u64, u64)> { rows.iter().map(|(seq, row)| (*seq, row.unix_ms)).collect() };
        assert_eq!(numbers(ring.newest_before(u64::MAX).collect()), [(4, 4), (3, 3), (2, 2)]);
        assert_eq!(numbers(ring.newest_before(4).collect()), [(3, 3), (2, 2)]);
        assert_eq!(ring.newest_before(1).count(), 0);
        assert_eq!(numbers(ring.from(3).collect()), [(3, 3), (4, 4)]);
        assert_eq!((ring.from(0).count(), ring.from(9).count(), ring.next(), ring.len()), (3, 0, 5, 3));
        assert!(ring.get(1).is_none() && ring.get(2).is_some() && ring.get(5).is_none());
    }
}
