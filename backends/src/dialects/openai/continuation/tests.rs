//! What is asked of the next machine, and what of its events reaches the client.

use super::*;

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":50}"#;

fn event(text: &str) -> Bytes {
    let text = json!(text);
    Bytes::from(format!(
        "data: {{\"id\":\"one\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}},\"finish_reason\":null}}]}}\n\n"
    ))
}

fn role() -> Bytes {
    Bytes::from_static(b"data: {\"id\":\"one\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n")
}

fn said(texts: &[&str]) -> Said {
    let mut said = Said::default();
    said.note(&role());
    texts.iter().for_each(|text| said.note(&event(text)));
    said
}

fn asked(said: &Said, body: &str) -> (Value, Seam) {
    match said.next(body.as_bytes(), 9) {
        Ok(Next::Ask { body, seam }) => (serde_json::from_slice(&body).unwrap(), seam),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unable(said: &Said, body: &str, expected: &str) {
    match said.next(body.as_bytes(), 9) {
        Err(reason) => assert_eq!(reason, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_next_machine_is_given_what_was_said() {
    let texts = ["The", " \"tra", "in\\", "\"\n", " é", "\u{1f600}"];
    let (body, _) = asked(&said(&texts), BODY);
    assert_eq!(body["messages"][1], json!({"role": "assistant", "content": texts.concat()}));
    assert_eq!((&body["continue_final_message"], &body["add_generation_prompt"]), (&json!(true), &json!(false)));
    assert_eq!((&body["max_tokens"], &body["model"], &body["stream"]), (&json!(44), &json!("m"), &json!(true)));
}

#[test]
fn what_cannot_go_on_any_more_keeps_its_count() {
    for texts in [&["one", " two", " three"][..], &["one two three four five six", " seven eight nine ten"]] {
        let mut said = said(texts);
        let tokens = said.tokens();
        said.give_up("of no matter");
        said.note(&event("more"));
        assert_eq!((said.tokens(), said.bytes()), (tokens, 0));
    }
}

#[test]
fn where_nothing_was_said_it_is_asked_as_at_first() {
    let (body, _) = asked(&said(&[]), BODY);
    assert_eq!(body, serde_json::from_str::<Value>(BODY).unwrap());
}

#[test]
fn events_that_hold_many_tokens_count_for_many_in_reports_and_for_one_at_the_bound() {
    assert_eq!(said(&["one", " two", " three"]).tokens(), 3);
    let many = said(&["one two three four five six", " seven eight nine ten"]);
    assert_eq!(many.tokens(), 48_u64.div_ceil(4));
    let (body, seam) = asked(&many, BODY);
    assert_eq!((&body["max_tokens"], seam.tokens), (&json!(48), 12), "no answer ends before it would have");
}

/// However a machine writes its JSON, an event is a token.
#[test]
fn text_is_counted_and_not_the_json_it_stands_in() {
    for texts in [["\\u5217", "\\u8f66", "\\ud83d\\ude82"], ["\u{5217}", "\u{8f66}", "\u{1f682}"]] {
        let mut said = Said::default();
        for text in texts {
            let choice = format!("{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}");
            said.note(format!("data: {{\"id\":\"one\",\"choices\":[{choice}]}}\n\n").as_bytes());
        }
        let (body, _) = asked(&said, BODY);
        assert_eq!((said.tokens(), &body["max_tokens"]), (3, &json!(47)), "{texts:?}");
        assert_eq!(body["messages"][1]["content"], "\u{5217}\u{8f66}\u{1f682}");
    }
}

#[test]
fn what_a_machine_tells_in_the_midst_of_its_answer_is_believed() {
    let with = |text: &str, usage: &str| {
        let event = String::from_utf8(event(text).to_vec()).unwrap();
        event.replace("\n\n", "").replace("null}]}", &format!("null}}],\"usage\":{usage}}}\n\n"))
    };
    let mut said = said(&[]);
    said.note(with("Which track", r#"{"prompt_tokens":20,"completion_tokens":2,"total_tokens":22}"#).as_bytes());
    said.note(with(" then, \n", r#"{"prompt_tokens":20,"completion_tokens":6,"total_tokens":26}"#).as_bytes());
    assert!(said.is_told());
    let (body, mut seam) = asked(&said, BODY);
    assert_eq!((said.tokens(), &body["max_tokens"]), (6, &json!(48)), "two stand whole before the white space");
    let report =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":25,\"completion_tokens\":5,\"total_tokens\":30}}\n\n";
    let joined: Value = serde_json::from_slice(sse::data(&seam.join(Bytes::from(report)).unwrap())).unwrap();
    assert_eq!(joined["usage"], json!({"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}));
    said.note(&event(" more"));
    assert_eq!((said.tokens(), said.is_told()), (7, false));

    let nothing = "{\"prompt_tokens\":0,\"completion_tokens\":0,\"total_tokens\":0}";
    let mut silent = self::said(&[]);
    [" a", " b"].iter().for_each(|text| silent.note(with(text, nothing).as_bytes()));
    assert_eq!((silent.tokens(), silent.is_told()), (2, false), "zeros tell nothing");
}

#[test]
fn an_answer_at_its_bound_only_lacks_its_last_events() {
    let bound = |body: &str| match said(&["a", "b"]).next(body.as_bytes(), 9) {
        Ok(Next::Bound { events, tokens: 2 }) => {
            events.iter().map(|event| serde_json::from_slice::<Value>(sse::data(event)).unwrap()).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let body = BODY.replace("50", "2");
    let told = bound(&body);
    assert_eq!((&told[0]["id"], &told[0]["choices"][0]["finish_reason"]), (&json!("one"), &json!("length")));
    assert_eq!(told.len(), 1);
    let told = bound(&body.replace("\"stream\":true", "\"stream\":true,\"stream_options\":{\"include_usage\":true}"));
    assert_eq!(told[1]["usage"], json!({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}));
    assert_eq!((&told[1]["id"], &told[1]["choices"]), (&json!("one"), &json!([])));
}

/// Behind its last event an answer may lack its report, and no more.
#[test]
fn an_answer_that_has_ended_lacks_its_report_where_that_was_asked_for() {
    let asks = BODY.replace("\"stream\":true", "\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    let mut said = said(&["a", "b"]);
    assert!(said.report(asks.as_bytes(), 9).is_none(), "it has not ended");
    said.note(b"data: {\"id\":\"one\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    assert!(said.report(BODY.as_bytes(), 9).is_none(), "nobody asked");
    let report: Value = serde_json::from_slice(sse::data(&said.report(asks.as_bytes(), 9).unwrap())).unwrap();
    assert_eq!(report["usage"], json!({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}));
}

#[test]
fn what_cannot_be_joined_says_why() {
    let with = |key: &str| BODY.replace("\"stream\":true", &format!("\"stream\":true,{key}"));
    for (key, reason) in [
        ("\"tools\":[{\"type\":\"function\"}]", "tools"),
        ("\"response_format\":{\"type\":\"json_object\"}", "response_format"),
        ("\"logprobs\":true", "logprobs"),
        ("\"continue_final_message\":true", "continue_final_message"),
    ] {
        unable(&said(&["a"]), &with(key), reason);
    }
    for harmless in
        ["\"tools\":[]", "\"logprobs\":false", "\"response_format\":{ \"type\": \"text\" }", "\"stop\":null"]
    {
        asked(&said(&["a"]), &with(harmless));
    }
    let begun = BODY.replace("}]", "},{\"role\":\"assistant\",\"content\":\"Well\"}]");
    unable(&said(&["a"]), &begun, "its answer was begun by the caller");
    unable(&said(&[&"x".repeat(LONGEST_SAID + 1)]), BODY, "its answer is longer than is kept");
    let shaped = |delta: &str, rest: &str| {
        let mut said = said(&["a"]);
        said.note(format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta},{rest}}}]}}\n\n").as_bytes());
        said
    };
    let none = "\"finish_reason\":null";
    unable(&shaped("{\"tool_calls\":[{\"index\":0}]}", none), BODY, "its answer holds more than text");
    unable(&shaped("{\"reasoning_content\":\"hm\"}", none), BODY, "its answer holds more than text");
    unable(&shaped("{\"content\":\"x\"}", "\"logprobs\":{\"content\":[]}"), BODY, "logprobs");
    unable(&shaped("{}", "\"finish_reason\":\"stop\""), BODY, "its answer had ended");
    asked(&shaped("{\"content\":\"x\",\"refusal\":null,\"tool_calls\":[],\"reasoning_content\":\"\"}", none), BODY);
}

#[test]
fn text_that_looks_like_the_end_of_an_event_is_text() {
    let tricky = ["a", "\"},\"finish_reason\":null}]}", "\\", "\\\"", "b"];
    let (body, _) = asked(&said(&tricky), BODY);
    assert_eq!(body["messages"][1]["content"], tricky.concat());
}

fn theirs(delta: &str) -> Bytes {
    let event = format!(
        "data: {{\"id\":\"two\",\"created\":2,\"model\":\"n\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]}}\n\n"
    );
    Bytes::from(event)
}

#[test]
fn events_of_the_next_machine_look_like_those_before() {
    let (_, mut seam) = asked(&said(&["The"]), BODY);
    assert_eq!(seam.join(theirs("{\"role\":\"assistant\",\"content\":\"\"}")), None, "the role has been told");
    assert_eq!(seam.join(theirs("{\"content\":\" train\"}")), Some(event(" train")));
    assert_eq!(seam.join(theirs("{\"role\":\"assistant\",\"content\":\" is\"}")), Some(event(" is")));
    assert_eq!(seam.join(theirs("{\"content\":\"\"}")), Some(event("")), "what says nothing is passed on");
    let comment = Bytes::from_static(b": ping\n\n");
    assert_eq!(seam.join(comment.clone()), Some(comment));
}

#[test]
fn white_space_that_the_client_has_is_not_repeated() {
    let (body, mut seam) = asked(&said(&["The", "\n\n "]), BODY);
    assert_eq!(body["messages"][1]["content"], "The");
    assert_eq!(body["max_tokens"], 49, "it is said again, so it may be said again");
    assert_eq!(seam.join(theirs("{\"content\":\"\\n\"}")), None);
    assert_eq!(seam.join(theirs("{\"content\":\"\\n train\"}")), Some(event("train")), "piece by piece");
    assert_eq!(seam.join(theirs("{\"content\":\"\\n \"}")), Some(event("\n ")), "once");
    let (_, mut seam) = asked(&said(&["The", "\n\n "]), BODY);
    assert_eq!(seam.join(theirs("{\"content\":\" train\"}")), Some(event(" train")), "it goes on otherwise");
    let (_, mut seam) = asked(&said(&["The", "\n\n "]), BODY);
    assert_eq!(seam.join(theirs("{\"content\":\"\\n\\n  train\"}")), Some(event(" train")));
    assert_eq!(seam.join(theirs("{\"content\":\"\\n\\n \"}")), Some(event("\n\n ")), "once");
}

#[test]
fn what_was_said_before_is_counted_as_answer() {
    let (_, mut seam) = asked(&said(&["The", " train"]), BODY);
    let report = Bytes::from_static(
        b"data: {\"id\":\"two\",\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":5,\"total_tokens\":17,\"prompt_tokens_details\":{\"cached_tokens\":11}}}\n\n",
    );
    let joined: Value = serde_json::from_slice(sse::data(&seam.join(report).unwrap())).unwrap();
    assert_eq!(joined["id"], "one");
    let expected = json!({"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17, "prompt_tokens_details": {"cached_tokens": 10}});
    assert_eq!(joined["usage"], expected);
}
