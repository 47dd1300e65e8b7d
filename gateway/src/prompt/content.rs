//! What of a body carries text: its size, what it looks like, and how it begins, in the same pass.

use std::fmt;

use pointsman_backends::learn::bytes_per_token::Look;
use pointsman_policies::prefix::Chain;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{BYTES_PER_TOKEN, TOKENS_PER_IMAGE};

/// Anything that carries text: strings, lists of token numbers, messages with parts.
pub(super) struct Content {
    pub(super) size: Size,
    pub(super) chain: Chain,
}

/// How much it is.
#[derive(Default)]
pub(super) struct Size {
    pub(super) text_bytes: u64,
    pub(super) numbers: u64,
    pub(super) images: u64,
    /// Texts, and lists of token numbers: of a completion, each is a prompt of its own.
    pub(super) texts: u64,
    pub(super) look: Look,
}

impl Size {
    pub(super) fn add(&mut self, other: Size) {
        self.text_bytes += other.text_bytes;
        self.numbers += other.numbers;
        self.images += other.images;
        self.texts += other.texts;
        self.look.add(other.look);
    }

    /// What was read was a list.
    pub(super) fn listed(&mut self) {
        if self.texts == 0 && self.numbers > 0 {
            self.texts = 1;
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Content, D::Error> {
        let mut chain = Chain::default();
        let size = deserializer.deserialize_any(Reader(&mut chain))?;
        Ok(Content { size, chain })
    }
}

/// Reads in the order of the body, which is the order in which machines read.
struct Reader<'c>(&'c mut Chain);

/// Between two texts: what is cut elsewhere is another prompt.
pub(super) const CUT: [u8; 1] = [0];
/// Keys of what is an image, whatever it holds.
pub(super) const IMAGES: [&str; 3] = ["image_url", "input_image", "image"];
/// Keys of what is no text.
pub(super) const LABELS: [&str; 5] = ["type", "role", "id", "tool_call_id", "name"];

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Size;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Size, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, messages or tokens")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        let mut look = Look::default();
        look.at(text.as_bytes());
        self.0.text(text.as_bytes());
        self.0.text(&CUT);
        Ok(Size { text_bytes: text.len() as u64, texts: 1, look, ..Size::default() })
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Size, E> {
        self.0.text(&number.to_le_bytes());
        Ok(Size { numbers: 1, ..Size::default() })
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Size, E> {
        self.visit_u64(number.cast_unsigned())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Size, E> {
        self.visit_u64(number.to_bits())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Size, E> {
        Ok(Size::default())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Size, E> {
        Ok(Size::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Size, A::Error> {
        let mut sum = Size::default();
        while let Some(item) = items.next_element_seed(Reader(&mut *self.0))? {
            sum.add(item);
        }
        sum.listed();
        Ok(sum)
    }

    /// An image's bytes say nothing about its tokens, so it counts as one image, whatever it holds.
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Size, A::Error> {
        let mut sum = Size::default();
        while let Some(key) = entries.next_key::<Key>()? {
            match key {
                Key::Image => {
                    let image = entries.next_value::<&RawValue>()?;
                    self.0.thing(xxh3_64(image.get().as_bytes()), TOKENS_PER_IMAGE * BYTES_PER_TOKEN);
                    sum.images += 1;
                }
                Key::Label => drop(entries.next_value::<IgnoredAny>()?),
                Key::Text => sum.add(entries.next_value_seed(Reader(&mut *self.0))?),
            }
        }
        Ok(sum)
    }
}

enum Key {
    Image,
    Label,
    Text,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let key = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Ok(match &*key {
            key if IMAGES.contains(&key) => Key::Image,
            key if LABELS.contains(&key) => Key::Label,
            _ => Key::Text,
        })
    }
}

/// Tools offered. Machines read them before all messages, wherever they stand in the body.
pub(super) struct Tools {
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) hash: u64,
}

impl<'de> Deserialize<'de> for Tools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tools, D::Error> {
        let tools = Vec::<&RawValue>::deserialize(deserializer)?;
        let bytes = tools.iter().map(|tool| tool.get().len() as u64).sum();
        let hash = tools.iter().fold(0, |hash, tool| xxh3_64_with_seed(tool.get().as_bytes(), hash));
        Ok(Tools { count: tools.len() as u64, bytes, hash })
    }
}
