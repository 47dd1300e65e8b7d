//! Who may ask the operators' listener: its own machine, whoever holds the token, and no web page of anybody else.

use pointsman_tests::client::{self, Ask, Next, Reply};
use pointsman_tests::files::{CHEAPEST, Files, PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::machines;
use pointsman_tests::process;
use pointsman_tests::run::beside_others;
use pointsman_tests::wait;
use serde_json::json;

const TOKEN: &str = "a-token-of-some-length-5521";

fn pools() -> String {
    portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1"])])
}

async fn with(admin: &str) -> Gateway {
    let files = Files::new(&format!("{PROCESS}[admin]\n{admin}\n"), &pools(), CHEAPEST);
    files.write("token", TOKEN);
    Gateway::on(files).await
}

#[track_caller]
fn assert_refused(reply: &Reply, status: u16, code: &str) {
    let told = reply.json();
    assert_eq!((reply.status.as_u16(), &told["error"]["code"]), (status, &code.into()), "{told}");
    assert!(told["error"]["help"].as_str().is_some_and(|help| !help.is_empty()), "{told}");
}

#[test]
fn a_page_under_a_name_of_its_own_reaches_nothing() {
    beside_others(async {
        let gateway = with("hosts = [\"pointsman.internal\"]").await;
        for path in ["/api/v1/status", "/metrics", "/", "/app.js", "/api/v1/requests", "/api/services"] {
            let ask = |host: &str| gateway.operate(Ask::get(path).header("host", host));
            assert_refused(&ask("evil.example:7071").await, 403, "unknown-host");
            for host in ["localhost:7071", "127.0.0.1", "pointsman.internal:7071"] {
                assert_eq!(ask(host).await.status, 200, "{host}");
            }
        }
        let page = Ask::get("/api/v1/status").header("origin", "http://evil.example");
        assert_refused(&gateway.operate(page).await, 403, "foreign-origin");
        assert_refused(&gateway.admin("/api/v1/stauts").await, 404, "not-found");
    });
}

#[test]
fn with_a_token_only_health_and_metrics_are_open() {
    beside_others(async {
        let gateway = with("token = { file = \"token\" }").await;
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(gateway.admin(path).await.status, 200, "{path}");
        }
        assert_refused(&gateway.admin("/api/v1/status").await, 401, "unauthorized");
        let bearer = |token: &str| Ask::get("/api/v1/status").header("authorization", &format!("Bearer {token}"));
        assert_refused(&gateway.operate(bearer("a-token-of-some-length-5522")).await, 401, "unauthorized");
        assert_eq!(gateway.operate(bearer(TOKEN)).await.status, 200);
    });
}

#[test]
fn a_listener_that_others_reach_wants_a_token() {
    beside_others(async {
        let process = PROCESS.replace("admin_listen = \"127.0.0.1:0\"", "admin_listen = \"0.0.0.0:0\"");
        let files = Files::new(&process, &pools(), CHEAPEST);
        let checked = || {
            let output = process::output(files.folder(), &["check"]);
            (output.status.success(), String::from_utf8(output.stderr).expect("UTF-8"))
        };
        let (sound, told) = checked();
        assert!(!sound && told.contains("admin-without-token") && told.contains("token = { env"), "{told}");
        files.write("pointsman.toml", &format!("{process}[admin]\ntoken = {{ file = \"token\" }}\n"));
        let (sound, told) = checked();
        assert!(sound && told.contains("`serve` will refuse this"), "a token that is missing here: {told}");
        files.write("token", TOKEN);
        assert!(checked().0);
    });
}

#[test]
fn a_page_of_anybody_else_can_neither_read_nor_change() {
    beside_others(async {
        let gateway = with("hosts = []").await;
        let foreign = |ask: Ask| gateway.operate(ask.header("origin", "http://evil.example"));
        for path in ["/api/v1/requests", "/api/v1/stream", "/api/v1/policy", "/api/services"] {
            assert_refused(&foreign(Ask::get(path)).await, 403, "foreign-origin");
        }
        // What a form of another page may send without being asked for leave.
        let form = |path: &str| Ask::raw(path, "{}").header("content-type", "text/plain");
        for path in ["/api/v1/rollback", "/api/v1/trial", "/api/v1/record"] {
            assert_refused(&foreign(form(path)).await, 403, "foreign-origin");
        }
    });
}

#[test]
fn an_endpoint_can_be_taken_out_of_service_and_given_back_through_reloads() {
    beside_others(async {
        let (one, other) = (machines::start("h100").await, machines::start("h100").await);
        let pools = portfolio(&[
            PoolText::new("cheap", [machines::url(&one)]).price(1),
            PoolText::new("dear", [machines::url(&other)]).price(2),
        ]);
        let gateway = Gateway::start(PROCESS, &pools, CHEAPEST).await;
        let served = async || {
            let reply = gateway.send(Ask::chat(&machines::chat(2, false))).await;
            (reply.status.as_u16(), reply.header("x-pointsman-endpoint").to_owned())
        };
        let turn = |what: &str, endpoint: &str| {
            let ask = Ask::post(&format!("/api/v1/backends/{what}"), &json!({ "endpoint": endpoint }));
            gateway.operate(ask.header("x-pointsman-who", "ada"))
        };
        let (status, cheap) = served().await;
        assert!(status == 200 && cheap.starts_with("cheap/"), "{cheap}");
        let mut stream = client::open(gateway.running.admin_address, Ask::get("/api/v1/stream")).await;
        let mut told = async |what: &str| loop {
            let Next::Event(event) = stream.next().await else { panic!("it ended") };
            if event.contains(what) {
                break;
            }
        };
        told("\"backends\"").await; // it has been seen in service
        let drained = turn("drain", &cheap).await.json();
        told(&format!("{cheap} is draining, drained by ada")).await;
        assert_eq!((&drained["drained"]["by"], &drained["endpoints_in_service"]), (&json!("ada"), &json!(1)));
        assert!(served().await.1.starts_with("dear/"));
        let backends = gateway.admin("/api/v1/backends").await.json();
        let out = backends["backends"].as_array().and_then(|all| all.iter().find(|one| one["endpoint"] == *cheap));
        let reason = &out.expect("it is told")["rejected"][0];
        assert_eq!(
            (&reason["reason"], &reason["newest"]["told"]),
            (&json!("draining"), &json!("draining")),
            "{backends}"
        );
        let trace = format!("/api/v1/traces/{}", reason["newest"]["trace_id"].as_str().unwrap_or_default());
        assert_eq!(gateway.admin(&trace).await.json()["request"]["pool"], "dear", "the request that it was kept from");
        gateway.files.write("policy.toml", &CHEAPEST.replacen("cheapest", "still", 1));
        wait::some("another policy", async || (gateway.status().await["generation"] == json!(2)).then_some(())).await;
        let (_, dear) = served().await;
        assert!(dear.starts_with("dear/"), "a reload gives it back: {dear}");
        assert_eq!(gateway.endpoint("cheap").await["availability"], "draining");
        let again = turn("drain", &cheap).await.json();
        assert_eq!(again["drained"], drained["drained"], "once is enough");
        assert_eq!(turn("drain", &dear).await.json()["endpoints_in_service"], json!(0));
        let refused = gateway.send(Ask::chat(&machines::chat(2, false))).await;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.text().contains("the operator has drained all that may serve this"), "{}", refused.text());
        assert_eq!(gateway.endpoint("cheap").await["drained"]["by"], "ada");
        assert!(turn("undrain", &cheap).await.json()["drained"].is_null());
        assert!(served().await.1.starts_with("cheap/"));
        let unknown = turn("drain", &cheap.replace("cheap", "chaep")).await;
        assert_refused(&unknown, 404, "unknown-endpoint");
        assert!(unknown.text().contains(&format!("did you mean `{cheap}`")), "{}", unknown.text());
    });
}

#[test]
fn an_endpoint_is_drained_from_the_command_line() {
    beside_others(async {
        let pools = portfolio(&[PoolText::new("gpu", ["http://127.0.0.1:1", "http://127.0.0.1:2"])]);
        let gateway = Gateway::start(PROCESS, &pools, CHEAPEST).await;
        let endpoint = "gpu/127.0.0.1:1";
        let admin = format!("http://{}", gateway.running.admin_address);
        let folder = gateway.files.folder().to_owned();
        let command = async |what: &'static str, name: &'static str| {
            let (folder, admin) = (folder.clone(), admin.clone());
            let ran = move || process::output(&folder, &[what, name, "--admin", &admin]);
            tokio::task::spawn_blocking(ran).await.expect("it ends")
        };
        let said = command("undrain", endpoint).await;
        assert_eq!(String::from_utf8_lossy(&said.stdout), format!("{endpoint} is in service, 2 in all\n"));
        let said = command("drain", endpoint).await;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.status.success() && text.starts_with(&format!("{endpoint} is drained by ")), "{text}");
        assert!(text.ends_with("0 still on their way, 1 in service\n"), "{text}");
        let said = command("drain", "gpu/127.0.0.1:11").await;
        assert!(!said.status.success(), "there is none such");
        assert!(String::from_utf8_lossy(&said.stderr).contains(&format!("did you mean `{endpoint}`")), "{said:?}");
    });
}
