//! How many tokens of an answer were said, where its machine tells and where only its events do. Both are counted: at least so
//! many, by which a caller's bound is kept so that no answer ends before it would have ended; and about so many, for reports.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Where events carry no more than so many bytes of text on average, each is taken for one token.
const MOST_BYTES_OF_A_TOKEN: u64 = 8;
/// Where they carry more, a token is taken for so many.
const BYTES_PER_TOKEN: u64 = 4;

/// Tokens of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    /// As many as the machine told of, and one for each event with text since: no event holds less.
    tokens: u64,
    /// Of these, those whose text stands whole before the white space at its end.
    kept: u64,
    prompt_tokens: Option<u64>,
    told: bool,
}

/// What a machine has used so far, by its own word in the midst of an answer.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Told {
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl Told {
    /// Reads the usage of an event; some machines put zeros into all but the last.
    pub(super) fn read(usage: &RawValue) -> Option<Told> {
        serde_json::from_str::<Option<Told>>(usage.get()).ok().flatten().filter(|told| told.prompt_tokens > 0)
    }
}

impl Count {
    /// An event with this text.
    pub(super) fn add(&mut self, text: &str, told: Option<Told>) {
        let before = self.tokens;
        match told {
            Some(told) => {
                (self.tokens, self.prompt_tokens, self.told) = (told.completion_tokens, Some(told.prompt_tokens), true);
            }
            None if text.is_empty() => {}
            None => (self.tokens, self.told) = (before + 1, false),
        }
        let inked = text.trim_end().len();
        if inked > 0 {
            self.kept = if inked == text.len() { self.tokens } else { before };
        }
        self.kept = self.kept.min(self.tokens);
    }

    /// At least so many were said.
    pub(super) fn at_least(&self) -> u64 {
        self.tokens
    }

    /// At least so many of the text without the white space at its end.
    pub(super) fn kept(&self) -> u64 {
        self.kept
    }

    /// About so many were said, if that is so many bytes of text.
    pub(super) fn guess(&self, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        let one_each = self.told || bytes <= self.tokens.saturating_mul(MOST_BYTES_OF_A_TOKEN);
        if one_each { self.tokens } else { bytes.div_ceil(BYTES_PER_TOKEN) }
    }

    /// About so many of the text without the white space at its end.
    pub(super) fn guess_kept(&self, bytes: usize) -> u64 {
        if self.kept == 0 { 0 } else { self.guess(bytes).saturating_sub(self.tokens - self.kept) }
    }

    /// Tokens of the prompt, where the machine told.
    pub(super) fn prompt_tokens(&self) -> Option<u64> {
        self.prompt_tokens
    }

    /// Whether the machine told of the last of it.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }
}
