//! Streams that break and go on on another machine: the client gets one answer, without a seam.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use pointsman_backends::simulators::server::RunningSimulator;
use pointsman_tests::client::{self, Ask, Next};
use pointsman_tests::double::{Act, Double, End, FIRST, LAST};
use pointsman_tests::files::{CHEAPEST, MODEL, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, url};
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use serde_json::{Value, json};

const ABLE: &str = "continues_answers = true";

/// The broken pool is asked first; the other can go on.
async fn gateway(broken: &str, other: &str, policy: &str) -> Gateway {
    let pools = [PoolText::new("broken", [broken]).price(1), PoolText::new("other", [other]).price(9).key(ABLE)];
    Gateway::start(PROCESS, &portfolio(&pools), policy).await
}

fn ask(extra: Value) -> Value {
    let mut body = json!({
        "model": MODEL, "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "Which track shall the next train take?"}],
    });
    body.as_object_mut().unwrap().append(&mut extra.as_object().unwrap().clone());
    body
}

/// What a client makes of a stream's events.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    text: String,
    roles: usize,
    finish: Vec<String>,
    usage: Option<Value>,
    ids: BTreeSet<String>,
    done: usize,
    errors: Vec<String>,
}

fn heard(events: &[String]) -> Heard {
    let mut heard = Heard::default();
    for event in events.iter().filter(|event| !event.is_empty()) {
        assert_eq!(heard.done, 0, "nothing comes behind the end: {event}");
        if event == "[DONE]" {
            heard.done += 1;
            continue;
        }
        let event: Value = serde_json::from_str(event).unwrap();
        if event.get("error").is_some() {
            heard.errors.push(event["error"]["code"].to_string());
            continue;
        }
        heard.ids.insert(format!("{} {} {}", event["id"], event["model"], event["created"]));
        heard.usage = event.get("usage").filter(|usage| usage.is_object()).cloned().or(heard.usage);
        let Some(choice) = event["choices"].get(0) else { continue };
        heard.text += choice["delta"]["content"].as_str().unwrap_or_default();
        heard.roles += usize::from(choice["delta"]["role"].is_string());
        heard.finish.extend(choice["finish_reason"].as_str().map(str::to_owned));
    }
    heard
}

async fn events(gateway: &Gateway, body: &Value, id: &str) -> Vec<String> {
    let ask = Ask::chat(body).header("x-request-id", id);
    let mut stream = client::open(gateway.address(), ask).await;
    assert_eq!(stream.status, 200);
    let (events, end) = stream.rest().await;
    assert_eq!(end, Next::End);
    events
}

/// A whole stream as its machine sends it.
async fn unbroken(machine: &RunningSimulator, body: &Value) -> Vec<String> {
    let (events, end) = client::open(machine.address(), Ask::chat(body)).await.rest().await;
    assert_eq!(end, Next::End);
    events
}

async fn record(gateway: &Gateway, id: &str) -> Value {
    gateway.until_in_flight(0).await;
    wait::some("its record is closed", async || {
        let reply = gateway.admin(&format!("/api/v1/decisions/{id}")).await;
        (reply.status == 200).then(|| reply.json())
    })
    .await
}

/// A stream of these events, each in a piece of its own.
fn first_of(events: &[String], count: usize, end: End) -> Act {
    let pieces: Vec<String> = events.iter().take(count).map(|event| format!("data: {event}\n\n")).collect();
    Act::stream(&pieces.iter().map(String::as_str).collect::<Vec<_>>(), end)
}

/// What of a stream's usage is a guess: nothing where its report came before the break, or nothing else had come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Guess {
    Nothing,
    /// How prompt and answer share what was counted.
    Shares,
    /// Tokens of the prompt.
    Prompt,
}

/// Cut behind one event of a machine: the client reads what it would have read of one machine, with its usage.
async fn check_cut(whole: &[String], other: &str, body: &Value, (cut, end): (usize, End), guess: Guess, case: &str) {
    let expected = heard(whole);
    let case = format!("{case}, cut behind event {cut} of {}, {end:?}", whole.len());
    let broken = Double::always(first_of(whole, cut, end)).await;
    let gateway = gateway(&broken.url(), other, CHEAPEST).await;
    let got = heard(&events(&gateway, body, "cut").await);
    assert_eq!((&got.text, &got.finish), (&expected.text, &expected.finish), "{case}");
    assert_eq!((got.roles, got.ids.len(), got.errors.len(), got.done), (1, 1, 0, 1), "{case}: {got:?}");
    let count = |heard: &Heard, key: &str| heard.usage.as_ref().and_then(|usage| usage[key].as_u64()).unwrap_or(0);
    let counts = |heard: &Heard| ["prompt_tokens", "completion_tokens", "total_tokens"].map(|key| count(heard, key));
    let ([prompt, answer, all], whole) = (counts(&got), counts(&expected));
    assert_eq!((answer, all), (whole[1], prompt + answer), "{case}: {got:?}");
    assert!(guess == Guess::Prompt && prompt > 0 || [prompt, answer, all] == whole, "{case}: {got:?}");
    let told = record(&gateway, "cut").await;
    assert_eq!(told["outcome"]["usage_estimated"], json!(guess != Guess::Nothing), "{case}");
}

/// The place of the event with which an answer ends.
fn last_choice(events: &[String]) -> usize {
    events.iter().position(|event| event.contains("\"finish_reason\":\"")).unwrap()
}

/// Cut behind every event there is, by a reset and by an end that comes too soon, where the answer ends by itself and at its
/// bound.
#[test]
fn an_answer_cut_anywhere_is_the_answer_that_was_not_cut() {
    beside_others(async {
        for (extra, finish) in [
            (json!({"simulated_answer_tokens": 12, "max_tokens": 40}), "stop"),
            (json!({"ignore_eos": true, "max_tokens": 9}), "length"),
        ] {
            let machine = machines::start("h100").await;
            let body = ask(extra);
            let whole = unbroken(&machine, &body).await;
            let (expected, last) = (heard(&whole), last_choice(&whole));
            assert_eq!((expected.finish.as_slice(), expected.done), ([finish.to_owned()].as_slice(), 1));
            for end in [End::Broken, End::Clean] {
                for cut in 1..whole.len() {
                    let guess = match cut {
                        1 => Guess::Nothing, // nothing had been said
                        _ if cut > last + 1 => Guess::Nothing,
                        _ if cut > last || (cut == last && finish == "length") => Guess::Prompt,
                        _ => Guess::Shares,
                    };
                    check_cut(&whole, &url(&machine), &body, (cut, end), guess, finish).await;
                }
            }
        }
    });
}

/// A machine that says these tokens, some to an event, and goes on behind those that it is given.
#[derive(Clone, Copy, Debug)]
struct Teller {
    tokens: &'static [&'static str],
    to_an_event: usize,
    /// Whether its JSON is ASCII alone.
    escapes: bool,
    /// Whether each event tells what was used so far.
    tells: bool,
}

/// Tokens of every prompt, as it counts.
const PROMPT_TOKENS: usize = 7;
const TRACK: [&str; 12] = ["列", "车", "应走", "\n", "\n", "第三", "轨", "道", "🚂", "。", " Merci", " à vous"];

impl Teller {
    async fn start(self) -> Double {
        Double::start(move |seen| {
            let events = self.events(&serde_json::from_slice(&seen.body).unwrap());
            first_of(&events, events.len(), End::Clean)
        })
        .await
    }

    fn events(&self, asked: &Value) -> Vec<String> {
        let goes_on = asked["continue_final_message"] == true;
        let given = if goes_on { asked["messages"][1]["content"].as_str().unwrap() } else { "" };
        let is_given = |count: &usize| given.starts_with(&self.tokens[..*count].concat());
        let from = (0..=self.tokens.len()).rev().find(is_given).unwrap();
        let most = asked["max_tokens"].as_u64().unwrap() as usize;
        let until = self.tokens.len().min(from + most);
        let usage = |said: usize| json!({"prompt_tokens": PROMPT_TOKENS + from, "completion_tokens": said, "total_tokens": PROMPT_TOKENS + from + said});
        let event = |delta: Value, finish: Value, said: usize| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
            let mut event = json!({"id": format!("t{from}"), "created": from, "model": MODEL, "choices": [choice]});
            if self.tells {
                event["usage"] = usage(said);
            }
            self.written(&event)
        };
        let mut events = vec![event(json!({"role": "assistant", "content": ""}), Value::Null, 0)];
        let mut said = 0;
        for tokens in self.tokens[from..until].chunks(self.to_an_event) {
            said += tokens.len();
            events.push(event(json!({"content": tokens.concat()}), Value::Null, said));
        }
        let finish = if until < self.tokens.len() { "length" } else { "stop" };
        events.push(event(json!({}), json!(finish), said));
        let report =
            json!({"id": format!("t{from}"), "created": from, "model": MODEL, "choices": [], "usage": usage(said)});
        events.push(self.written(&report));
        events.push("[DONE]".to_owned());
        events
    }

    fn written(&self, event: &Value) -> String {
        let text = event.to_string();
        if !self.escapes {
            return text;
        }
        let escaped = |letter: char| match letter.is_ascii() {
            true => letter.to_string(),
            false => letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        };
        text.chars().map(escaped).collect()
    }
}

/// Tokens are counted, not the bytes of the JSON they stand in.
#[test]
fn an_answer_of_any_letters_is_cut_no_shorter_than_its_bound() {
    beside_others(async {
        for (escapes, most) in [(true, 40), (true, 9), (false, 9)] {
            let teller = Teller { tokens: &TRACK, to_an_event: 1, escapes, tells: false };
            let machine = teller.start().await;
            let body = ask(json!({"max_tokens": most}));
            let whole = teller.events(&body);
            let last = last_choice(&whole);
            for cut in 1..whole.len() {
                let guess = match cut {
                    1 => Guess::Nothing,
                    _ if cut > last + 1 => Guess::Nothing,
                    _ if cut > last || (cut == last && most == 9) => Guess::Prompt,
                    _ => Guess::Shares,
                };
                let case = format!("escapes {escapes}, at most {most}");
                check_cut(&whole, &machine.url(), &body, (cut, End::Broken), guess, &case).await;
            }
        }
    });
}

/// What it tells in the midst of its answer needs no guess, wherever it breaks.
#[test]
fn a_machine_that_tells_what_it_has_used_is_believed() {
    beside_others(async {
        let tokens = &["列车", " 应走", "\n", "\n\n", "第三", "轨道", "🚂", "。", "谢", "谢"];
        for most in [40, 6] {
            let teller = Teller { tokens, to_an_event: 2, escapes: true, tells: true };
            let machine = teller.start().await;
            let body = ask(json!({"max_tokens": most}));
            let whole = teller.events(&body);
            for cut in 1..whole.len() {
                let case = format!("at most {most}");
                check_cut(&whole, &machine.url(), &body, (cut, End::Broken), Guess::Nothing, &case).await;
            }
        }
    });
}

/// Where events hold many tokens and nobody tells how many, it may say more than its caller's bound, never less.
#[test]
fn an_answer_in_large_events_is_never_cut_short() {
    beside_others(async {
        let teller = Teller { tokens: &TRACK, to_an_event: 3, escapes: false, tells: false };
        let machine = teller.start().await;
        let body = ask(json!({"max_tokens": 9}));
        let whole = teller.events(&body);
        let expected = heard(&whole);
        for cut in 1..whole.len() - 2 {
            let broken = Double::always(first_of(&whole, cut, End::Broken)).await;
            let gateway = gateway(&broken.url(), &machine.url(), CHEAPEST).await;
            let got = heard(&events(&gateway, &body, "large").await);
            assert!(got.text.starts_with(&expected.text), "cut behind {cut}: {got:?}");
            assert_eq!((got.errors.len(), got.done), (0, 1), "cut behind {cut}: {got:?}");
            let usage = got.usage.unwrap();
            let all = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
            assert_eq!(usage["total_tokens"].as_u64(), Some(all), "cut behind {cut}");
        }
    });
}

#[test]
fn it_is_told_in_the_stream_the_record_and_the_metrics_and_its_cost_is_true() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let body = ask(json!({"simulated_answer_tokens": 20, "max_tokens": 40}));
        let whole = unbroken(&machine, &body).await;
        let broken = Double::always(first_of(&whole, 6, End::Broken)).await; // the role and five words
        let gateway = gateway(&broken.url(), &url(&machine), CHEAPEST).await;
        let reply = gateway.send(Ask::chat(&body).header("x-request-id", "told")).await;
        let text = reply.text();
        let (before, _) = text.split_once("data: [DONE]").unwrap();
        let comment = before.trim_end().lines().last().unwrap();
        assert!(comment.starts_with(": x-pointsman-continued: 1; endpoints: broken/"), "{comment}");
        assert!(comment.ends_with("; usage: estimated"), "who had said how many is told by events alone: {comment}");

        let told = record(&gateway, "told").await;
        let outcome = &told["outcome"];
        assert_eq!((&outcome["outcome"], &outcome["output_tokens"]), (&json!("answered"), &json!(20)), "{told}");
        let attempts = outcome["attempts"].as_array().unwrap();
        let failure = attempts[0]["failure"].as_str().unwrap();
        assert!(failure.starts_with("the stream broke after 5 tokens: "), "{failure}");
        assert_eq!((attempts.len(), &attempts[1]["failure"]), (2, &Value::Null));
        // One dollar a million tokens for the first machine, nine for the second, which read the five tokens, too.
        let prompt = outcome["input_tokens"].as_f64().unwrap();
        let usd = (prompt + 5.0 + 9.0 * (prompt + 5.0 + 15.0)) / 1e6;
        assert!((outcome["usd"].as_f64().unwrap() - usd).abs() < 1e-12, "{outcome}, not {usd}");
        let metric = "pointsman_broken_streams_total{class=\"interactive\",result=\"continued\"}";
        assert_eq!(gateway.metric(metric).await, 1.0);
        let metric = "pointsman_attempt_failures_total{pool=\"broken\",cause=\"broken-off\"}";
        assert_eq!(gateway.metric(metric).await, 1.0);
        assert_eq!(broken.seen().len(), 1, "who broke is not asked again");
    });
}

/// Also by a machine that cannot be followed by another, and tells nothing of what it used.
#[test]
fn what_goes_on_is_counted_to_its_end() {
    beside_others(async {
        let event = |delta: Value, finish: Value| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
            json!({"id": "t", "created": 1, "model": MODEL, "choices": [choice]}).to_string()
        };
        let word = || event(json!({"content": " on"}), Value::Null);
        let begun = [event(json!({"role": "assistant", "content": ""}), Value::Null), word(), word()];
        let mut rest = vec![begun[0].clone(), event(json!({"reasoning_content": "hm"}), Value::Null)];
        rest.extend((0..20).map(|_| word()));
        rest.extend([event(json!({}), json!("stop")), "[DONE]".to_owned()]);
        let broken = Double::always(first_of(&begun, begun.len(), End::Broken)).await;
        let other = Double::always(first_of(&rest, rest.len(), End::Clean)).await;
        let gateway = gateway(&broken.url(), &other.url(), CHEAPEST).await;
        let body = ask(json!({"stream_options": {"include_usage": false}}));
        assert_eq!(heard(&events(&gateway, &body, "cut").await).done, 1);
        let told = record(&gateway, "cut").await;
        let tokens = told["outcome"]["output_tokens"].as_u64().unwrap();
        assert!((22..=26).contains(&tokens), "{told}");
        assert_eq!(told["outcome"]["usage_estimated"], true, "{told}");
    });
}

#[test]
fn an_error_event_of_a_machine_and_its_silence_are_breaks_too() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let body = ask(json!({"simulated_answer_tokens": 8, "max_tokens": 40}));
        let whole = unbroken(&machine, &body).await;
        let error = "data: {\"error\":{\"message\":\"out of memory\",\"code\":\"oom\"}}\n\n";
        let mut pieces: Vec<String> = whole.iter().take(4).map(|event| format!("data: {event}\n\n")).collect();
        pieces.push(error.to_owned());
        let complaining = Act::stream(&pieces.iter().map(String::as_str).collect::<Vec<_>>(), End::Clean);
        for act in [complaining, first_of(&whole, 4, End::Hang)] {
            let broken = Double::always(act).await;
            let process = format!("{PROCESS}[timeouts]\nevent_idle_s = 1\n");
            let pools = [
                PoolText::new("broken", [broken.url()]).price(1),
                PoolText::new("other", [url(&machine)]).price(9).key(ABLE),
            ];
            let gateway = Gateway::start(&process, &portfolio(&pools), CHEAPEST).await;
            let got = heard(&events(&gateway, &body, "e").await);
            assert_eq!((got.text, got.errors.len(), got.done), (heard(&whole).text, 0, 1));
        }
    });
}

/// Two machines break, the third ends it.
#[test]
fn it_goes_on_as_often_as_its_route_has_attempts() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let body = ask(json!({"simulated_answer_tokens": 12, "max_tokens": 40}));
        let whole = unbroken(&machine, &body).await;
        let first = Double::always(first_of(&whole, 4, End::Broken)).await;
        // As a machine that goes on from three words and breaks after two more.
        let mut rest = vec![whole[0].clone()];
        rest.extend_from_slice(&whole[4..6]);
        let second = Double::always(first_of(&rest, 3, End::Broken)).await;
        let pools = [
            PoolText::new("a", [first.url()]).price(1),
            PoolText::new("b", [second.url()]).price(2).key(ABLE),
            PoolText::new("c", [url(&machine)]).price(3).key(ABLE),
        ];
        let gateway = Gateway::start(PROCESS, &portfolio(&pools), CHEAPEST).await;
        let reply = gateway.send(Ask::chat(&body)).await;
        assert!(reply.text().contains(": x-pointsman-continued: 2; endpoints: a/"), "{}", reply.text());
        let asked: Value = serde_json::from_slice(&second.last().body).unwrap();
        assert_eq!(asked["messages"][1]["content"].as_str().unwrap().split(' ').count(), 3);
        assert_eq!((&asked["max_tokens"], &asked["continue_final_message"]), (&json!(37), &json!(true)));

        let twice = format!("{CHEAPEST}retry = {{ attempts = 2 }}\n");
        let gateway = Gateway::start(PROCESS, &portfolio(&pools), &twice).await;
        let got = heard(&events(&gateway, &body, "two").await);
        assert_eq!((got.errors.len(), got.done), (1, 0), "{got:?}");
        let told = record(&gateway, "two").await;
        assert_eq!(told["outcome"]["not_continued"], "its route has no attempts left", "{told}");
    });
}

#[test]
fn where_it_may_not_or_cannot_it_ends_in_an_error_event_that_says_so() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let broken = Double::always(Act::stream(&[FIRST, FIRST], End::Broken)).await;
        let without = format!("{CHEAPEST}continue_broken_streams = false\n");
        for (extra, policy, reason) in [
            (json!({}), without.as_str(), Value::Null),
            (json!({"tools": [{"type": "function", "function": {"name": "f"}}]}), CHEAPEST, json!("tools")),
            (json!({"logprobs": true}), CHEAPEST, json!("logprobs")),
            (json!({"response_format": {"type": "json_object"}}), CHEAPEST, json!("response_format")),
        ] {
            let gateway = gateway(&broken.url(), &url(&machine), policy).await;
            let got = heard(&events(&gateway, &ask(extra.clone()), "no").await);
            assert_eq!((got.errors.len(), got.done, got.text.as_str()), (1, 0, "HelloHello"), "{extra}: {got:?}");
            assert_eq!(record(&gateway, "no").await["outcome"]["not_continued"], reason, "{extra}");
        }
        // No machine can.
        let pools =
            [PoolText::new("broken", [broken.url()]).price(1), PoolText::new("other", [url(&machine)]).price(9)];
        let gateway = Gateway::start(PROCESS, &portfolio(&pools), CHEAPEST).await;
        assert_eq!(heard(&events(&gateway, &ask(json!({})), "no").await).errors.len(), 1);
        // The only one that could is the one that broke.
        let pools = [PoolText::new("broken", [broken.url()]).price(1).key(ABLE)];
        let gateway = Gateway::start(PROCESS, &portfolio(&pools), CHEAPEST).await;
        assert_eq!(heard(&events(&gateway, &ask(json!({})), "no").await).errors.len(), 1);
        let reason = &record(&gateway, "no").await["outcome"]["not_continued"];
        assert_eq!(reason, "no other machine can go on with it");
        // The one that could refuses.
        let refusing = Double::always(Act::json(400, "{}")).await;
        let gateway = self::gateway(&broken.url(), &refusing.url(), CHEAPEST).await;
        let got = heard(&events(&gateway, &ask(json!({})), "no").await);
        assert_eq!((got.errors.len(), got.done), (1, 0), "{got:?}");
    });
}

/// Requests and answers are kept within one bound for all streams. One that finds no room ends where it breaks.
#[test]
fn what_is_kept_of_all_streams_is_bounded_and_given_back() {
    beside_others(async {
        let machine = machines::start("h100").await;
        let large = FIRST.replace("Hello", &"Hello ".repeat(1000));
        let broken = Double::start(move |seen| match seen.header("x-part") {
            "hangs" => Act::stream(&[FIRST], End::Hang),
            "large" => Act::stream(&[FIRST, &large, FIRST], End::Broken),
            _ => Act::stream(&[FIRST, FIRST], End::Broken),
        })
        .await;
        let process = format!("{PROCESS}[limits]\ncontinuation_bytes = 5200\n");
        let pools = [
            PoolText::new("broken", [broken.url()]).price(1),
            PoolText::new("other", [url(&machine)]).price(9).key(ABLE),
        ];
        let gateway = Gateway::start(&process, &portfolio(&pools), CHEAPEST).await;
        let kept = || gateway.inner().kept_for_continuation().load(Ordering::Relaxed);
        let padded = |bytes: usize| ask(json!({"user": "u".repeat(bytes), "max_tokens": 40}));
        let send = async |bytes: usize, part: &str, id: &str| {
            let ask = Ask::chat(&padded(bytes)).header("x-request-id", id).header("x-part", part);
            let (events, end) = client::open(gateway.address(), ask).await.rest().await;
            assert_eq!(end, Next::End);
            let told = wait::some("its record is closed", async || {
                let reply = gateway.admin(&format!("/api/v1/decisions/{id}")).await;
                (reply.status == 200).then(|| reply.json())
            });
            (heard(&events), told.await["outcome"]["not_continued"].clone())
        };
        let full = "`limits.continuation_bytes` are kept for other streams";

        let hanging = Ask::chat(&padded(3000)).header("x-part", "hangs");
        let mut hanging = client::open(gateway.address(), hanging).await;
        assert!(matches!(hanging.next().await, Next::Event(_)));
        assert!((3000..=5200).contains(&kept()), "{}", kept());
        let (got, reason) = send(2000, "breaks", "no-room").await;
        assert_eq!((got.errors.len(), got.done, reason), (1, 0, json!(full)));
        drop(hanging);
        gateway.until_in_flight(0).await;
        assert_eq!(kept(), 0);

        let (got, reason) = send(2000, "breaks", "room").await;
        assert_eq!((got.errors.len(), got.done, reason), (0, 1, Value::Null));
        let (got, reason) = send(100, "large", "large").await;
        assert_eq!((got.errors.len(), got.done, reason), (1, 0, json!(full)));
        wait::until("it is given back", || kept() == 0).await;
        assert_eq!(gateway.metric("pointsman_kept_for_continuation_bytes").await, 0.0);
    });
}

/// Behind the last event of the answer nothing is asked anew.
#[test]
fn an_answer_that_had_ended_is_not_continued() {
    beside_others(async {
        let broken = Double::always(Act::stream(&[FIRST, LAST], End::Broken)).await;
        let other = Double::always(Act::good_stream()).await;
        let gateway = gateway(&broken.url(), &other.url(), CHEAPEST).await;
        let got = heard(&events(&gateway, &ask(json!({})), "ended").await);
        assert_eq!((got.text.as_str(), got.errors.len(), other.seen().len()), ("Hello", 0, 0));
    });
}

/// A client that leaves while another machine is asked to go on takes that work along.
#[test]
fn leaving_while_it_is_to_go_on_cancels_the_work() {
    beside_others(async {
        let mut config = machines::config("h100");
        config.profile.service.slots = 1;
        config.speed = 0.01;
        let machine = machines::run(config).await;
        let broken = Double::always(Act::stream(&[FIRST, FIRST], End::Broken)).await;
        let gateway = gateway(&broken.url(), &url(&machine), CHEAPEST).await;
        let mut stream = client::open(gateway.address(), Ask::chat(&ask(json!({"max_tokens": 100_000})))).await;
        assert!(matches!(stream.next().await, Next::Event(_)));
        wait::until("it is asked to go on", || machine.stats().accepted == 1).await;
        drop(stream);
        wait::until("its work is cancelled", || machine.stats().cancelled == 1).await;
        gateway.until_in_flight(0).await;
    });
}
