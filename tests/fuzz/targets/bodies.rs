//! Any text as the body of a request: what is accepted is JSON that a full parser reads in the same way, the model stands
//! where its span says, and putting another name there changes nothing else. The first byte chooses the API.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman::prompt::{Parsed, parse};
use pointsman_policies::facts::Api;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let api = Api::ALL[usize::from(*choice) % Api::ALL.len()];
    let parsed = parse(api, body);
    let value = serde_json::from_slice::<Value>(body);
    let Ok(parsed) = parsed else { return };
    let value = match value {
        Ok(value) => value,
        Err(error) if error.to_string().contains("recursion limit") || error.to_string().contains("number out of range") => return,
        Err(error) => panic!("accepted, and no JSON: {error}"),
    };
    assert_eq!(value["model"], parsed.model.as_str(), "two parsers, two models");
    assert_eq!(value["stream"].as_bool().unwrap_or(false) && api != Api::Embeddings, parsed.stream);
    assert_eq!(value["service_tier"].as_str().unwrap_or_default(), parsed.service_tier);
    let bound = ["max_completion_tokens", "max_tokens"].iter().find_map(|name| value[name].as_u64());
    assert_eq!(bound, parsed.max_output_tokens);
    let span = parsed.model_span.clone();
    let named: String = serde_json::from_slice(&body[span.clone()]).unwrap_or_else(|error| panic!("the span: {error}"));
    assert_eq!(named, parsed.model);

    let spliced = [&body[..span.start], b"\"another\"", &body[span.end..]].concat();
    let again = parse(api, &spliced).unwrap_or_else(|error| panic!("spliced, it is refused: {error:?}"));
    let expected = Parsed { model: "another".to_owned(), model_span: again.model_span.clone(), prefix: again.prefix.clone(), ..parsed };
    assert_eq!(again, expected, "another name changes nothing else");
});
