//! A candidate on trial: a canary that is worse goes by itself and stays away, one that is not stays; what belongs
//! together stays together; a shadow counts and does nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pointsman_backends::simulators::server::RunningSimulator;
use pointsman_tests::client::{Ask, Connection, Reply};
use pointsman_tests::files::{Files, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines::{self, chat, url};
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A promise that the slow machine never keeps.
const PROMISE: &str = "[class.standard]\ndeadline_s = 0.3\n";
/// The least that the guard asks for before it judges.
const MIN_REQUESTS: u64 = 20;

/// Pools `fast` and `slow`, one machine each.
struct Two {
    _machines: [RunningSimulator; 2],
    pools: String,
}

async fn two() -> Two {
    let slow = machines::faulty("cs3", &["slow-first-byte:400ms"]).await;
    let machines = [machines::start("cs3").await, slow];
    let pools = [PoolText::new("fast", [url(&machines[0])]), PoolText::new("slow", [url(&machines[1])])];
    let pools = portfolio(&pools);
    Two { _machines: machines, pools }
}

/// A policy that sends everything to one pool.
fn all_to(name: &str, pool: &str) -> String {
    format!("name = \"{name}\"\n{PROMISE}[[route]]\nname = \"only\"\npools = 'pool.name == \"{pool}\"'\n")
}

fn canary(share: f64) -> String {
    format!("[canary]\npolicy = \"candidate.toml\"\nshare = {share}\nrollback.min_requests = {MIN_REQUESTS}\n")
}

/// `incumbent` sends everything to the fast machine; `candidate` to another pool.
async fn start(two: &Two, trial: &str, candidate_pool: &str) -> Gateway {
    let files = Files::new(PROCESS, &two.pools, &format!("{}{trial}", all_to("incumbent", "fast")));
    files.write("candidate.toml", &all_to("candidate", candidate_pool));
    Gateway::on(files).await
}

/// Sends one request and says which policy decided it.
async fn ask(connection: &Connection, session: &str) -> String {
    let reply = connection.send(Ask::chat(&chat(1, false)).header("x-pointsman-session", session)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("x-pointsman-policy").to_owned()
}

/// Clients that ask one after the other, each time as another session.
struct Callers {
    clients: JoinSet<BTreeMap<String, u64>>,
    stop: Arc<AtomicBool>,
}

impl Callers {
    fn start(gateway: &Gateway) -> Callers {
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut clients = JoinSet::new();
        for _ in 0..8 {
            let (address, stop, asked) = (gateway.address(), Arc::clone(&stop), Arc::clone(&asked));
            clients.spawn(async move {
                let connection = Connection::http1(address).await;
                let mut decided = BTreeMap::new();
                while !stop.load(Ordering::Relaxed) {
                    let session = format!("session-{}", asked.fetch_add(1, Ordering::Relaxed));
                    *decided.entry(ask(&connection, &session).await).or_default() += 1;
                }
                decided
            });
        }
        Callers { clients, stop }
    }

    /// How many requests each policy has decided.
    async fn stop(self) -> BTreeMap<String, u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = BTreeMap::new();
        for decided in self.clients.join_all().await {
            for (policy, count) in decided {
                *sum.entry(policy).or_default() += count;
            }
        }
        sum
    }
}

/// Waits until what is told of the trial is so.
async fn until(gateway: &Gateway, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    wait::some(what, async || Some(trial(gateway).await).filter(|view| condition(view))).await
}

/// Requests of the class that a side has had.
fn requests(view: &Value, side: &str) -> u64 {
    view["canary"]["classes"][0][side]["requests"].as_u64().unwrap_or(0)
}

async fn trial(gateway: &Gateway) -> Value {
    gateway.admin("/api/v1/trial").await.json()
}

/// Starts again on the same files, as another process would.
async fn restart(gateway: Gateway) -> Gateway {
    let Gateway { files, running } = gateway;
    running.drain().await;
    Gateway::on(files).await
}

async fn assert_all_decided_by(gateway: &Gateway, policy: &str) {
    let connection = Connection::http1(gateway.address()).await;
    for session in 0..30 {
        assert_eq!(ask(&connection, &format!("later-{session}")).await, policy);
    }
}

#[test]
fn a_canary_that_is_worse_rolls_itself_back_and_stays_away() {
    beside_others(async {
        let two = two().await;
        let gateway = start(&two, &canary(0.5), "slow").await;
        let callers = Callers::start(&gateway);
        let view = until(&gateway, "it is rolled back", |view| view["state"] == "rolled-back").await;
        let decided = callers.stop().await;
        assert!(decided["candidate@1+canary"] >= MIN_REQUESTS && decided["incumbent@1"] >= MIN_REQUESTS, "{decided:?}");
        let why = &view["rolled_back"];
        let attainment = |side: &str| why[side]["attainment"].as_f64().unwrap();
        assert!(attainment("candidate") < 0.2 && attainment("incumbent") > 0.5, "{view}");
        assert_eq!(
            (&why["class"], &why["margin"], &why["confidence"]),
            (&"standard".into(), &0.02.into(), &0.99.into())
        );
        assert_eq!(view["incumbent"]["policy"], "incumbent@2");
        assert_all_decided_by(&gateway, "incumbent@2").await;
        assert_eq!(gateway.metric("pointsman_trial_rollbacks_total").await, 1.0);
        assert_eq!(gateway.status().await["trial"]["state"], "rolled-back");

        let history = gateway.inner().history().entries(1);
        assert_eq!((history[0].who.as_str(), history[0].source.as_str()), ("canary guard", "canary-rollback"));
        let told = &history[0].summary;
        let figures = ["`candidate` is taken back: class standard", "more than 2.0 %", "99.0 % confidence"];
        assert!(figures.iter().all(|figure| told.contains(figure)), "{told}");

        // What the file says is unchanged, and neither an edit elsewhere nor a restart brings it back.
        let policy = all_to("incumbent", "fast");
        assert_eq!(
            std::fs::read_to_string(gateway.files.path("policy.toml")).unwrap(),
            format!("{policy}{}", canary(0.5))
        );
        gateway.files.replace("policy.toml", &format!("# more of it\n{policy}{}", canary(0.9)));
        until(&gateway, "the edit is in force", |view| view["incumbent"]["policy"] == "incumbent@3").await;
        assert_all_decided_by(&gateway, "incumbent@3").await;
        let gateway = restart(gateway).await;
        assert_eq!(trial(&gateway).await["rolled_back"], *why);
        assert_all_decided_by(&gateway, "incumbent@3").await;

        // Another text is another candidate.
        gateway.files.replace("candidate.toml", &all_to("mended", "fast"));
        until(&gateway, "the mended candidate runs", |view| view["state"] == "running").await;
        let callers = Callers::start(&gateway);
        until(&gateway, "it decides", |view| requests(view, "candidate") > 0).await;
        assert!(callers.stop().await["mended@4+canary"] > 0);
    });
}

#[test]
fn a_canary_that_is_as_good_stays() {
    beside_others(async {
        let two = two().await;
        let gateway = start(&two, &canary(0.5), "fast").await;
        let callers = Callers::start(&gateway);
        let enough = |view: &Value| requests(view, "candidate") >= 20 * MIN_REQUESTS;
        let view = until(&gateway, "it has decided many", enough).await;
        callers.stop().await;
        assert_eq!(view["state"], "running", "{view}");
        assert_eq!(view["canary"]["classes"][0]["verdict"]["state"], "fine", "{view}");
        assert_eq!(gateway.metric("pointsman_trial_rollbacks_total").await, 0.0);
        let tried = "pointsman_trial_requests_total{arm=\"candidate\",class=\"standard\",result=\"kept\"}";
        assert!(gateway.metric(tried).await > 0.0);
    });
}

#[test]
fn a_session_stays_with_its_policy_and_the_counts_survive_a_reload_and_a_restart() {
    beside_others(async {
        let two = two().await;
        let gateway = start(&two, &canary(0.5), "fast").await;
        let decides = async |gateway: &Gateway| {
            let connection = Connection::http1(gateway.address()).await;
            let mut by_session = BTreeMap::new();
            for session in (0..24).map(|session| format!("s{session}")) {
                let policy = ask(&connection, &session).await.split('@').next().unwrap().to_owned();
                assert_eq!(ask(&connection, &session).await.split('@').next().unwrap(), policy, "{session}");
                by_session.insert(session, policy);
            }
            by_session
        };
        let counted = async |gateway: &Gateway, expected: u64| {
            let all = |view: &Value| requests(view, "incumbent") + requests(view, "candidate");
            let view = until(gateway, "all are counted", |view| all(view) >= expected).await;
            assert_eq!(all(&view), expected, "{view}");
        };
        let first = decides(&gateway).await;
        assert!(
            first.values().any(|policy| policy == "incumbent") && first.values().any(|policy| policy == "candidate")
        );
        counted(&gateway, 48).await;

        // Another share and another portfolio are the same trial.
        gateway.files.replace("policy.toml", &format!("{}{}", all_to("incumbent", "fast"), canary(0.51)));
        until(&gateway, "the edit is in force", |view| view["canary"]["share"] == 0.51).await;
        let moved = decides(&gateway).await;
        assert!(first.iter().all(|(session, policy)| policy == "incumbent" || moved[session] == "candidate"));
        counted(&gateway, 96).await;
        let gateway = restart(gateway).await;
        counted(&gateway, 96).await;
        assert_eq!(decides(&gateway).await, moved);

        // Other rules are another trial.
        gateway.files.replace("policy.toml", &format!("{}{}", all_to("other", "fast"), canary(0.51)));
        until(&gateway, "the edit is in force", |view| view["incumbent"]["policy"] == "other@3").await;
        counted(&gateway, 0).await;
    });
}

#[test]
fn a_shadow_counts_what_it_would_do_and_does_nothing() {
    beside_others(async {
        let two = two().await;
        let gateway = start(&two, "[shadow]\npolicy = \"candidate.toml\"\n", "slow").await;
        assert_all_decided_by(&gateway, "incumbent@1").await;
        let compared = |view: &Value| view["shadow"]["compared"] == 30;
        let view = until(&gateway, "all are compared", compared).await;
        let class = &view["shadow"]["classes"]["standard"];
        assert_eq!((&class["same_class"], &class["same_pool"]), (&30.into(), &0.into()), "{view}");
        assert_eq!(class["moves"]["fast"]["slow"], 30, "{view}");
        assert_eq!(gateway.metric("pointsman_shadow_decisions_total{result=\"different\"}").await, 30.0);
        assert_eq!(view["shadow"]["dropped"], 0);
        wait::some("some are kept to be looked at", async || {
            let found = gateway.admin("/api/v1/requests?filter=is:disagreed").await.json();
            (found["requests"][0]["detail"] == "unusual").then_some(())
        })
        .await;
    });
}

#[test]
fn a_candidate_that_is_wrong_harms_nothing() {
    beside_others(async {
        let two = two().await;
        let gateway = start(&two, &canary(0.5), "fast").await;
        let refused = async |gateway: &Gateway, code: &str| {
            wait::some(code, async || {
                let status = gateway.status().await;
                let diagnostics = status["reload"]["diagnostics"].as_array()?.clone();
                diagnostics.into_iter().find(|one| one["code"] == code && one["severity"] == "error")
            })
            .await
        };
        let file = |told: &Value| told["file"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        gateway
            .files
            .replace("candidate.toml", "[class.standard]\nttft_ms = 1\n[[route]]\npools = 'pool.nme == \"fast\"'\n");
        assert_eq!(file(&refused(&gateway, "unknown-field").await), "candidate.toml");
        gateway.files.replace("candidate.toml", "[shadow]\npolicy = \"policy.toml\"\n");
        assert_eq!(file(&refused(&gateway, "trial-in-candidate").await), "candidate.toml");
        std::fs::remove_file(gateway.files.path("candidate.toml")).unwrap();
        let told = refused(&gateway, "unreadable-candidate").await;
        assert_eq!((file(&told), told["line"].is_u64()), ("policy.toml".to_owned(), true), "{told}");
        let itself = canary(0.5).replace("candidate.toml", "policy.toml");
        gateway.files.replace("policy.toml", &format!("{}{itself}", all_to("incumbent", "fast")));
        assert_eq!(file(&refused(&gateway, "candidate-is-itself").await), "policy.toml");
        let connection = Connection::http1(gateway.address()).await;
        assert!(ask(&connection, "s").await.contains("@1"), "the last good set stays");
    });
}

/// Asks for a change of the trial.
async fn change(gateway: &Gateway, path: &str, body: &Value) -> Reply {
    gateway.operate(Ask::post(&format!("/api/v1/trial{path}"), body)).await
}

#[track_caller]
fn assert_refused(reply: &Reply, status: u16, code: &str) {
    let told = reply.json();
    assert_eq!((reply.status.as_u16(), &told["error"]["code"]), (status, &code.into()), "{told}");
    assert!(told["error"]["help"].as_str().is_some_and(|help| !help.is_empty()), "{told}");
}

#[test]
fn a_trial_is_begun_changed_promoted_and_stopped_by_command() {
    beside_others(async {
        let two = two().await;
        let policy = format!("# rules of ours\n{}", all_to("incumbent", "fast"));
        let gateway = Gateway::on(Files::new(PROCESS, &two.pools, &policy)).await;
        let on_disk = || std::fs::read_to_string(gateway.files.path("policy.toml")).unwrap();
        assert_refused(&change(&gateway, "/stop", &json!({})).await, 409, "no-trial");
        assert_refused(
            &change(&gateway, "", &json!({"mode": "shadow", "policy": "../x.toml"})).await,
            400,
            "bad-trial",
        );
        assert_refused(&change(&gateway, "", &json!({"mode": "shadow", "share": 0.1})).await, 400, "bad-trial");

        // A text becomes a file beside the policy, which names it.
        let text = all_to("candidate", "fast");
        let shadow = json!({"mode": "shadow", "text": text, "name": "next.toml"});
        let begun = change(&gateway, "", &shadow).await;
        assert_eq!(
            (begun.status.as_u16(), &begun.json()["trial"]["state"]),
            (200, &"running".into()),
            "{}",
            begun.text()
        );
        assert_eq!(on_disk(), format!("{policy}\n[shadow]\npolicy = \"next.toml\"\n"));
        assert_eq!(std::fs::read_to_string(gateway.files.path("next.toml")).unwrap(), text);
        assert_eq!(change(&gateway, "", &shadow).await.json()["change"]["result"], "unchanged", "it is idempotent");

        // The same candidate as a canary, for those who know what they change.
        let canary = json!({"mode": "canary", "share": 1.0, "margin": 0.05});
        let stale = Ask::post("/api/v1/trial", &canary).header("if-match", "\"0000000000000000\"");
        assert_refused(&gateway.operate(stale).await, 412, "stale");
        let fresh = Ask::post("/api/v1/trial", &canary).header("if-match", begun.header("etag"));
        let view = gateway.operate(fresh).await.json();
        assert_eq!(
            (&view["trial"]["canary"]["share"], &view["trial"]["canary"]["margin"]),
            (&1.0.into(), &0.05.into())
        );
        assert_all_decided_by(&gateway, "candidate@3+canary").await;

        // A candidate that is wrong changes nothing and leaves nothing behind.
        let wrong = json!({"mode": "canary", "text": "[class.x]\nttft_ms = \"never\"\n", "name": "wrong.toml"});
        assert_refused(&change(&gateway, "", &wrong).await, 422, "refused");
        assert!(!gateway.files.path("wrong.toml").exists());

        let promoted = change(&gateway, "/promote", &json!({})).await;
        assert_eq!(promoted.json()["change"]["policy"], "candidate@4", "{}", promoted.text());
        assert_eq!(on_disk(), text);
        assert_all_decided_by(&gateway, "candidate@4").await;
        let history = gateway.inner().history().entries(1);
        assert_eq!(history[0].source.as_str(), "promote");

        // Another text under the same name gets a name of its own.
        let other = all_to("other", "fast");
        change(&gateway, "", &json!({"mode": "shadow", "text": other, "name": "next.toml"})).await;
        assert_eq!(std::fs::read_to_string(gateway.files.path("next.toml")).unwrap(), text);
        let file = trial(&gateway).await["candidate"]["file"].as_str().unwrap().to_owned();
        assert_eq!(std::fs::read_to_string(file).unwrap(), other);
        assert_eq!(change(&gateway, "/stop", &json!({})).await.json()["trial"]["state"], "none");
        assert_eq!(on_disk(), text);
    });
}

#[test]
fn what_was_rolled_back_is_not_promoted_and_may_be_tried_again() {
    beside_others(async {
        let two = two().await;
        let gateway = start(&two, &canary(0.5), "slow").await;
        assert_refused(&change(&gateway, "/resume", &json!({})).await, 409, "not-rolled-back");
        let callers = Callers::start(&gateway);
        until(&gateway, "it is rolled back", |view| view["state"] == "rolled-back").await;
        callers.stop().await;
        assert_refused(&change(&gateway, "/promote", &json!({})).await, 409, "rolled-back");
        let resumed = change(&gateway, "/resume", &json!({})).await.json();
        assert_eq!(
            (&resumed["trial"]["state"], &resumed["change"]["policy"]),
            (&"running".into(), &"incumbent@3".into())
        );
        assert_eq!(requests(&trial(&gateway).await, "candidate"), 0, "it begins anew");
        let callers = Callers::start(&gateway);
        until(&gateway, "it is rolled back again", |view| view["state"] == "rolled-back").await;
        assert!(callers.stop().await["candidate@3+canary"] > 0);
    });
}

#[test]
fn where_only_files_change_anything_no_command_does() {
    beside_others(async {
        let two = two().await;
        let process = format!("{PROCESS}[generations]\nlocked = true\n");
        let files = Files::new(&process, &two.pools, &format!("{}{}", all_to("incumbent", "fast"), canary(0.5)));
        files.write("candidate.toml", &all_to("candidate", "fast"));
        let gateway = Gateway::on(files).await;
        let shadow = json!({"mode": "shadow", "text": ""});
        for (path, body) in [("", &shadow), ("/stop", &json!({})), ("/promote", &json!({})), ("/resume", &json!({}))] {
            assert_refused(&change(&gateway, path, body).await, 423, "locked");
        }
        assert_eq!(trial(&gateway).await["state"], "running", "and reading is free");
    });
}
