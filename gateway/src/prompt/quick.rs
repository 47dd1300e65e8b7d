//! Bodies as clients write them, read in one pass. What is unusual or wrong is left to the thorough reader: both find the
//! same in what both read.

use pointsman_backends::learn::bytes_per_token::Look;
use pointsman_policies::prefix::Chain;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::content::{CUT, Content, IMAGES, LABELS, Size, Tools};
use super::scan::Scan;
use super::{BYTES_PER_TOKEN, Fields, TOKENS_PER_IMAGE};

/// Content nested deeper than this is unusual.
const DEEPEST: usize = 16;
/// Text that is gathered before it is hashed, bytes.
const GATHERED: usize = 2_048;

/// The fields of a body, unless something about it is unusual.
pub(super) fn fields(text: &str) -> Option<Fields<'_>> {
    let mut fields = Fields::default();
    let mut scan = Scan::new(text);
    scan.object(|scan, key| match key {
        b"model" => once(&mut fields.model, model(scan)?),
        b"stream" => once(&mut fields.stream, scan.boolean()?),
        b"service_tier" => once(&mut fields.service_tier, str::from_utf8(scan.plain_string()?).ok()?.to_owned()),
        b"max_tokens" => once(&mut fields.max_tokens, scan.number()?),
        b"max_completion_tokens" => once(&mut fields.max_completion_tokens, scan.number()?),
        b"n" => once(&mut fields.n, scan.number()?),
        b"messages" => once(&mut fields.messages, content(scan)?),
        b"prompt" => once(&mut fields.prompt, content(scan)?),
        b"input" => once(&mut fields.input, content(scan)?),
        b"tools" => once(&mut fields.tools, tools(scan)?),
        _ => scan.skip(),
    })?;
    scan.is_at_end().then_some(fields)
}

/// A field that is given twice is left to the one who refuses it.
fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

fn model<'a>(scan: &mut Scan<'a>) -> Option<&'a serde_json::value::RawValue> {
    let place = scan.place();
    scan.plain_string()?;
    serde_json::from_slice(scan.since(place)?).ok()
}

fn tools(scan: &mut Scan<'_>) -> Option<Tools> {
    let mut tools = Tools { count: 0, bytes: 0, hash: 0 };
    scan.array(|scan| {
        let place = scan.place();
        scan.skip()?;
        let tool = scan.since(place)?;
        tools.count += 1;
        tools.bytes += tool.len() as u64;
        tools.hash = xxh3_64_with_seed(tool, tools.hash);
        Some(())
    })?;
    Some(tools)
}

fn content(scan: &mut Scan<'_>) -> Option<Content> {
    let mut texts = Texts::default();
    (scan.peek()? != b'n').then_some(())?;
    let size = value(scan, &mut texts, DEEPEST)?;
    Some(Content { size, chain: texts.chain })
}

/// What reads the texts, as they come.
#[derive(Default)]
struct Texts {
    chain: Chain,
    /// Short pieces, gathered: most of what stands between two escapes is short.
    gathered: Vec<u8>,
}

impl Texts {
    /// A piece of text, and the character that was escaped behind it.
    fn piece(&mut self, piece: &[u8], escaped: Option<char>, look: &mut Look) -> usize {
        if self.gathered.len() + piece.len() + char::MAX_LEN_UTF8 > GATHERED {
            self.flush(look);
        }
        if piece.len() + char::MAX_LEN_UTF8 > GATHERED {
            look.at(piece);
            self.chain.text(piece);
        } else {
            self.gathered.extend_from_slice(piece);
        }
        let Some(escaped) = escaped else { return piece.len() };
        if escaped.is_ascii() {
            self.gathered.push(escaped as u8);
        } else {
            self.gathered.extend_from_slice(escaped.encode_utf8(&mut [0; char::MAX_LEN_UTF8]).as_bytes());
        }
        piece.len() + escaped.len_utf8()
    }

    fn flush(&mut self, look: &mut Look) {
        look.at(&self.gathered);
        self.chain.text(&self.gathered);
        self.gathered.clear();
    }
}

fn value(scan: &mut Scan<'_>, texts: &mut Texts, depth: usize) -> Option<Size> {
    let deeper = depth.checked_sub(1)?;
    let mut sum = Size::default();
    match scan.peek()? {
        b'"' => return string(scan, texts),
        b'[' => {
            scan.array(|scan| value(scan, texts, deeper).map(|item| sum.add(item)))?;
            sum.listed();
        }
        b'{' => scan.object(|scan, key| member(scan, key, texts, deeper, &mut sum))?,
        b't' | b'f' => drop(scan.boolean()?),
        b'n' => scan.word(b"null").then_some(())?,
        _ => {
            texts.chain.text(&scan.number()?.to_le_bytes());
            sum.numbers = 1;
        }
    }
    Some(sum)
}

fn member(scan: &mut Scan<'_>, key: &[u8], texts: &mut Texts, deeper: usize, sum: &mut Size) -> Option<()> {
    if IMAGES.iter().any(|image| image.as_bytes() == key) {
        let place = scan.place();
        scan.skip()?;
        texts.chain.thing(xxh3_64(scan.since(place)?), TOKENS_PER_IMAGE * BYTES_PER_TOKEN);
        sum.images += 1;
    } else if LABELS.iter().any(|label| label.as_bytes() == key) {
        scan.skip()?;
    } else {
        sum.add(value(scan, texts, deeper)?);
    }
    Some(())
}

fn string(scan: &mut Scan<'_>, texts: &mut Texts) -> Option<Size> {
    let (mut look, mut text_bytes) = (Look::default(), 0);
    scan.text(|piece, escaped| text_bytes += texts.piece(piece, escaped, &mut look) as u64)?;
    texts.flush(&mut look);
    texts.chain.text(&CUT);
    Some(Size { text_bytes, texts: 1, look, ..Size::default() })
}

#[cfg(test)]
mod tests {
    use pointsman_policies::facts::Api;

    use super::super::{Parsed, parsed, thorough};
    use super::*;

    const BODIES: [&str; 6] = [
        r#"{"model":"m","messages":[{"role":"system","content":"Be brief.\n\tNo \"jokes\" \u00e9\ud83d\ude00"},
            {"role":"user","content":[{"type":"text","text":"caf\u00e9 123  {}"},{"type":"image_url","image_url":{"url":"data:AA"}}]}],
            "stream":true,"max_tokens":50,"temperature":0.7,"stop":["a",null],"n":2}"#,
        r#"{ "model" : "m" , "prompt" : ["one", "two   2"], "max_completion_tokens" : 7, "service_tier":"flex" }"#,
        r#"{"model":"m","input":[[1,2,3],[400000,5]],"encoding_format":"float"}"#,
        r#"{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
            {"role":"tool","tool_call_id":"c","content":"42"}],"tools":[{"type":"function","function":{"name":"f"}} , {"b":[1,-2.5e1]}],"stream":false}"#,
        r#"{"model":"m","messages":"  just text, which some take  ","user":"u","metadata":{"a":{"b":[true,false,null]}}}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"0123456789"},true,7],"logit_bias":{"50256":-100}}"#,
    ];

    const SPOILING: &[u8] = b"{}[]\",:\\0-1.eEnu tf\n\x01";

    fn read(text: &str, fields: Fields<'_>) -> Vec<Result<Parsed, String>> {
        let api = match text {
            _ if text.contains("input") => Api::Embeddings,
            _ if text.contains("prompt") => Api::Completions,
            _ => Api::ChatCompletions,
        };
        vec![parsed(api, text, fields).map_err(|error| format!("{error:?}"))]
    }

    /// Whatever is read quickly must be read thoroughly too, and be the same.
    fn check(text: &str) -> bool {
        let Some(quickly) = fields(text) else { return false };
        let thoroughly = thorough(text).unwrap_or_else(|error| panic!("{error:?}: {text}"));
        assert_eq!(read(text, quickly), read(text, thoroughly), "{text}");
        true
    }

    #[test]
    fn usual_bodies_are_read_quickly_and_as_thoroughly() {
        for body in BODIES {
            assert!(check(body), "{body}");
            let long = body.replace("0123456789", &"The quick brown fox.\\n  Jumps \u{e9}\u{1F600} ".repeat(400));
            assert!(check(&long));
        }
    }

    #[test]
    fn spoilt_bodies_are_never_read_otherwise() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut quickly = 0;
        println!("seed {seed}");
        for round in 0..60_000 {
            let mut bytes = BODIES[round % BODIES.len()].as_bytes().to_vec();
            for _ in 0..random.usize(1..4) {
                let (at, other) = (random.usize(..bytes.len()), random.usize(..bytes.len()));
                match random.u8(..5) {
                    0 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, bytes[other]),
                    2 => bytes[at] = SPOILING[random.usize(..SPOILING.len())],
                    3 => bytes.swap(at, other),
                    _ => drop(bytes.splice(at..(at + 9).min(bytes.len()), BODIES[1].bytes().skip(other % 60).take(12))),
                }
            }
            if let Ok(text) = String::from_utf8(bytes) {
                quickly += u32::from(check(&text));
            }
        }
        assert!(quickly > 1_000, "only {quickly} were compared");
    }
}
