//! How many bytes of text make a token, by model, tenant and kind of text; corrected by the usage that machines return.

use pointsman_policies::facts::BYTES_PER_TOKEN;
use serde::{Deserialize, Serialize};

use super::bounded::{Bounded, Entries, key};

/// Ratios kept at most: models times tenants times kinds of text.
const MOST_RATIOS: usize = 4_096;
/// How much of what was known remains after each new prompt: about the last hundred prompts count.
const MEMORY: f64 = 0.99;
/// A parent's ratio counts as much as this many tokens of the child's own.
const PARENT_TOKENS: f64 = 1_000.0;
/// No text of this world has fewer or more bytes to a token; outside of it a count is a mistake.
const RANGE: (f64, f64) = (1.0, 16.0);
/// Prompts shorter than this, tokens, are mostly chat template.
const SHORTEST_PROMPT: u64 = 16;
/// How much of a text is looked at to tell its kind, bytes.
const LOOK_BYTES: usize = 1_024;

/// What kind of text a prompt is, as far as it bears on tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// Words with few symbols.
    #[default]
    Prose,
    /// Programs, JSON, tables: many symbols, digits and indentation.
    Code,
    /// Scripts that need several bytes for a letter.
    Other,
}

impl Content {
    /// By a look at the beginning of a text.
    pub fn of(text: &[u8]) -> Content {
        let mut look = Look::default();
        look.at(text);
        look.content()
    }

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Content::Prose => "prose",
            Content::Code => "code",
            Content::Other => "other",
        }
    }
}

/// A cheap look at the first bytes of a text that may come in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    bytes: u32,
    wide: u32,
    symbols: u32,
    blank_before: bool,
}

impl Look {
    /// Looks at the next piece, until enough has been seen.
    pub fn at(&mut self, text: &[u8]) {
        let left = LOOK_BYTES.saturating_sub(self.bytes as usize);
        if left == 0 {
            return;
        }
        let seen = text.get(..left).unwrap_or(text);
        let Some(first) = seen.first() else { return };
        // Two runs without branches, which compilers put on wide registers.
        let wide: usize = seen.iter().map(|byte| usize::from(!byte.is_ascii())).sum();
        let symbols: usize = seen.iter().map(|byte| usize::from(is_symbol(*byte))).sum();
        let pairs = seen.iter().zip(seen.iter().skip(1));
        let doubled: usize = pairs.map(|(before, byte)| usize::from(is_blank(*before) & is_blank(*byte))).sum();
        self.bytes += seen.len() as u32;
        self.wide += wide as u32;
        self.symbols += (symbols + doubled) as u32 + u32::from(self.blank_before && is_blank(*first));
        self.blank_before = seen.last().is_some_and(|last| is_blank(*last));
    }

    /// What was seen of another piece counts as well, as far as not enough has been seen.
    pub fn add(&mut self, other: Look) {
        if (self.bytes as usize) < LOOK_BYTES {
            self.bytes += other.bytes;
            self.wide += other.wide;
            self.symbols += other.symbols;
        }
    }

    /// What it looks like.
    pub fn content(self) -> Content {
        if self.wide * 5 > self.bytes {
            Content::Other
        } else if self.symbols * 8 > self.bytes {
            Content::Code
        } else {
            Content::Prose
        }
    }
}

fn is_blank(byte: u8) -> bool {
    (byte == b' ') | (byte == b'\t') | (byte == b'\n')
}

/// A digit, or punctuation that prose has little of.
fn is_symbol(byte: u8) -> bool {
    let prose = (byte == b'.') | (byte == b',') | (byte == b'\'');
    let within = |from: u8, count: u8| byte.wrapping_sub(from) < count;
    (within(b'!', 32) | within(b'[', 6) | within(b'{', 4)) & !prose
}

/// Recent bytes and tokens, the older the less they weigh.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Ratio {
    bytes: f64,
    tokens: f64,
}

impl Ratio {
    fn add(&mut self, bytes: f64, tokens: f64) {
        self.bytes = self.bytes * MEMORY + bytes;
        self.tokens = self.tokens * MEMORY + tokens;
    }

    /// Its own ratio as far as it has seen enough, its parent's for the rest.
    fn shrunk_to(self, parent: f64) -> f64 {
        (self.bytes + parent * PARENT_TOKENS) / (self.tokens + PARENT_TOKENS)
    }

    fn is_sound(&self) -> bool {
        self.bytes.is_finite() && self.tokens.is_finite() && self.bytes >= 0.0 && self.tokens >= 0.0
    }
}

/// The learned ratios.
#[derive(Clone, Debug)]
pub struct BytesPerToken {
    ratios: Bounded<Ratio>,
}

impl Default for BytesPerToken {
    fn default() -> BytesPerToken {
        BytesPerToken { ratios: Bounded::new(MOST_RATIOS) }
    }
}

impl BytesPerToken {
    /// Bytes per token expected of a text.
    pub fn ratio(&self, model: &str, tenant: &str, content: Content) -> f64 {
        let prior = BYTES_PER_TOKEN as f64;
        let [parent, own] = keys(model, tenant, content);
        let parent = self.ratios.get(parent).map_or(prior, |ratio| ratio.shrunk_to(prior));
        let own = self.ratios.get(own).map_or(parent, |ratio| ratio.shrunk_to(parent));
        own.clamp(RANGE.0, RANGE.1)
    }

    /// Tokens expected of a text of this many bytes.
    pub fn tokens(&self, model: &str, tenant: &str, content: Content, bytes: u64) -> u64 {
        (bytes as f64 / self.ratio(model, tenant, content)).ceil() as u64
    }

    /// A machine counted a prompt. Counts that cannot be right are left out.
    pub fn learn(&mut self, model: &str, tenant: &str, content: Content, bytes: u64, tokens: u64) {
        let ratio = bytes as f64 / tokens.max(1) as f64;
        if tokens < SHORTEST_PROMPT || !(RANGE.0..=RANGE.1).contains(&ratio) {
            return;
        }
        for key in keys(model, tenant, content) {
            self.ratios.entry(key, Ratio::default).add(bytes as f64, tokens as f64);
        }
    }

    pub(super) fn save(&self) -> Saved {
        Saved(self.ratios.entries())
    }

    pub(super) fn restore(&mut self, saved: Saved) {
        self.ratios.restore(saved.0, Ratio::is_sound);
    }
}

/// The ratios as saved.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Saved(Entries<Ratio>);

/// Of the model, and of the tenant's use of it.
fn keys(model: &str, tenant: &str, content: Content) -> [u64; 2] {
    let (model, content) = (model.as_bytes(), content.as_str().as_bytes());
    [key(&[model, content]), key(&[model, content, tenant.as_bytes()])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_digits_and_punctuation_but_that_of_prose() {
        for byte in 0..=u8::MAX {
            let punctuation = byte.is_ascii_punctuation() && !matches!(byte, b'.' | b',' | b'\'');
            assert_eq!(is_symbol(byte), byte.is_ascii_digit() || punctuation, "{byte}");
        }
    }

    #[test]
    fn however_a_text_is_cut_it_looks_the_same() {
        let text = "fn main() {\n    let x = 12;  // \u{e9}\u{20ac}\n\n\tx\n}".repeat(9);
        let mut whole = Look::default();
        whole.at(text.as_bytes());
        for size in 1..70 {
            let mut look = Look::default();
            text.as_bytes().chunks(size).for_each(|piece| look.at(piece));
            assert_eq!(look, whole, "in pieces of {size}");
        }
    }

    #[test]
    fn kinds_of_text_are_told_apart_by_a_look() {
        #[track_caller]
        fn check(text: &str, expected: Content) {
            assert_eq!(Content::of(text.as_bytes()), expected, "{text}");
        }
        check("", Content::Prose);
        check("The railway worker sets the points so that each train takes the right track, isn't it?", Content::Prose);
        check("fn main() {\n    let x = [1, 2];\n    println!(\"{x:?}\");\n}\n", Content::Code);
        check(r#"{"id":17,"tags":["a","b"],"size":{"w":10,"h":20}}"#, Content::Code);
        check("Стрелочник переводит стрелки, чтобы поезда шли по своим путям.", Content::Other);
        check("転轍手は列車が正しい線路を進むように分岐器を切り替える。", Content::Other);
    }

    #[test]
    fn a_ratio_starts_at_the_prior_follows_usage_and_keeps_tenants_apart() {
        let mut learned = BytesPerToken::default();
        assert_eq!(learned.tokens("m", "a", Content::Prose, 4_000), 1_000);
        for _ in 0..300 {
            learned.learn("m", "a", Content::Prose, 3_000, 1_000);
            learned.learn("m", "b", Content::Prose, 5_000, 1_000);
        }
        let ratio = |tenant| learned.ratio("m", tenant, Content::Prose);
        assert!((ratio("a") - 3.0).abs() < 0.05, "{}", ratio("a"));
        assert!((ratio("b") - 5.0).abs() < 0.05, "{}", ratio("b"));
        assert!((ratio("new") - 4.0).abs() < 0.05, "the parent is the mean of both: {}", ratio("new"));
        assert_eq!(learned.ratio("m", "a", Content::Code), 4.0);
    }

    #[test]
    fn a_change_of_tokenizer_is_followed() {
        let mut learned = BytesPerToken::default();
        for tokens in [1_000, 2_000] {
            for _ in 0..500 {
                learned.learn("m", "a", Content::Prose, 4_000, tokens);
            }
        }
        assert!((learned.ratio("m", "a", Content::Prose) - 2.0).abs() < 0.1);
    }

    #[test]
    fn counts_that_cannot_be_right_teach_nothing() {
        let mut learned = BytesPerToken::default();
        for (bytes, tokens) in [(0, 0), (1_000_000, 20), (20, 1_000), (u64::MAX, u64::MAX / 2), (4_000, u64::MAX)] {
            learned.learn("m", "a", Content::Prose, bytes, tokens);
        }
        let ratio = learned.ratio("m", "a", Content::Prose);
        assert!(ratio.is_finite() && (1.0..=16.0).contains(&ratio), "{ratio}");
        learned = BytesPerToken::default();
        learned.learn("m", "a", Content::Prose, 1_000_000, 20);
        assert_eq!(learned.ratio("m", "a", Content::Prose), 4.0);
    }

    #[test]
    fn tenants_without_number_stay_within_the_bound() {
        let mut learned = BytesPerToken::default();
        for tenant in 0..20_000 {
            learned.learn("m", &tenant.to_string(), Content::Prose, 3_000, 1_000);
        }
        assert!(learned.ratios.len() <= MOST_RATIOS);
        assert!((learned.ratio("m", "0", Content::Prose) - 3.0).abs() < 0.1, "the forgotten get their parent's");
    }
}
