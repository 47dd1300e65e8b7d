//! `pointsman simulate-fleet` as an operator types it: the same every time, what can be wrong, what tools read.

use pointsman_tests::files::{Files, PROCESS};
use pointsman_tests::process;
use pointsman_tests::run::beside_others;
use serde_json::Value;

const PORTFOLIO: &str = r#"
[site.valley]
pue = 1.2
[site.fjord]
pue = 1.1
[pool.gpu]
site = "valley"
hardware = "h100"
endpoints = ["http://gpu-1", "http://gpu-2"]
[pool.gpu.model."gpt-oss-120b"]
usd_per_m = { input = 0.08, output = 0.35 }
[pool.wafer]
site = "fjord"
hardware = "cs3"
endpoints = ["http://wafer-1"]
limits = { requests_per_minute = 120, tokens_per_minute = 300_000, reserves_output = true }
[pool.wafer.model."gpt-oss-120b"]
usd_per_m = { input = 0.35, output = 0.75 }
"#;
const POLICY: &str = "name = \"two-pools\"\n";

/// A described load that is simulated in a second.
const LOAD: [&str; 4] = ["--rps", "4", "--hours", "0.02"];
/// One that is simulated, at all the loads that are searched, in seconds; at twice itself it is too much.
const LITTLE: [&str; 4] = ["--rps", "12", "--hours", "0.01"];

/// Runs it; status, stdout, stderr.
fn simulate(files: &Files, arguments: &[&str]) -> (Option<i32>, String, String) {
    let all: Vec<&str> = ["simulate-fleet"].into_iter().chain(arguments.iter().copied()).collect();
    let output = process::output(files.folder(), &all);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn with(arguments: &[&'static str]) -> Vec<&'static str> {
    LOAD.into_iter().chain(arguments.iter().copied()).collect()
}

fn little(arguments: &[&'static str]) -> Vec<&'static str> {
    LITTLE.into_iter().chain(arguments.iter().copied()).collect()
}

fn json(files: &Files, arguments: &[&'static str]) -> Value {
    let (status, told, wrong) = simulate(files, &with(&[arguments, &["--json", "-"]].concat()));
    assert_eq!(status, Some(0), "{wrong}");
    serde_json::from_str(&told).expect("one object")
}

#[test]
fn the_tables_are_the_same_every_time() {
    beside_others(async {
        let files = Files::new(PROCESS, PORTFOLIO, POLICY);
        let (status, told, wrong) = simulate(
            &files,
            &little(&[
                "--load",
                "1.0,2",
                "--what-if",
                "pool.gpu.endpoints+1",
                "--without-site",
                "valley",
                "--html",
                "page.html",
                "--json",
                "all.json",
            ]),
        );
        assert_eq!((status, wrong.as_str()), (Some(0), ""));
        // The last line tells how long it took.
        let stable = |text: &str| text.lines().filter(|line| !line.starts_with("Seed ")).collect::<Vec<_>>().join("\n");
        let (_, again, _) = simulate(
            &files,
            &little(&["--load", "1.0,2", "--what-if", "pool.gpu.endpoints+1", "--without-site", "valley"]),
        );
        assert_eq!(stable(&told), stable(&again));
        let longest = told.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(120), "{longest:?} columns:\n{told}");
        for part in [
            "Load 1.0: ",
            "Load 2.0: ",
            "Where it saturates first: ",
            "moved while held",
            "fairness ",
            "what was predicted",
            "one endpoint more of gpu",
            "without site valley",
        ] {
            assert!(told.contains(part), "{part} is missing:\n{told}");
        }
        let page = std::fs::read_to_string(files.path("page.html")).expect("a page");
        assert!(page.ends_with("</html>\n") && page.contains("prefers-color-scheme: dark"));
        for outside in ["http://", "https://", "<script", "@import"] {
            assert!(!page.contains(outside), "the page asks for {outside}");
        }
        let all: Value =
            serde_json::from_str(&std::fs::read_to_string(files.path("all.json")).expect("JSON")).expect("JSON");
        assert_eq!(all["loads"].as_array().map(Vec::len), Some(2));
    });
}

#[test]
fn tools_get_every_figure() {
    beside_others(async {
        let files = Files::new(PROCESS, PORTFOLIO, POLICY);
        let told = json(&files, &["--load", "1.0", "--what-if", "pool.wafer.endpoints+1"]);
        assert_eq!((&told["format"], &told["policy"], &told["endpoints"]), (&1.into(), &"two-pools".into(), &3.into()));
        let load = &told["loads"][0];
        let classes = load["classes"].as_array().expect("classes");
        let names: Vec<&str> = classes.iter().filter_map(|class| class["name"].as_str()).collect();
        assert_eq!(names, ["realtime", "interactive", "standard", "batch"]);
        let requests: u64 = classes.iter().filter_map(|class| class["requests"].as_u64()).sum();
        assert_eq!(load["simulated_requests"], requests);
        for figure in ["attainment", "usd_per_day", "usd_per_1k_good", "kwh_per_day", "j_per_good_token", "peak_kw"] {
            assert!(load[figure].as_f64().is_some_and(|figure| figure > 0.0), "{figure}: {load:#}");
        }
        assert!(load["pools"][1]["used"]["rate_limit"].is_number(), "{load:#}");
        assert!(load["rates"]["moved"].is_number() && load["rates"]["hedged"].is_number(), "{load:#}");
        assert!(load["fairness"]["jain"].as_f64().is_some_and(|index| index > 0.5), "{load:#}");
        for figure in
            ["/herding", "/calibration/ttft_came_over_predicted/p90", "/calibration/itl_came_over_predicted/p50"]
        {
            let told = load.pointer(figure).and_then(Value::as_f64);
            assert!(told.is_some_and(|told| (0.3..3.0).contains(&told)), "{figure}: {load:#}");
        }
        let (keeps, fails) = (&told["limit"]["holds_up_to_load"], &told["limit"]["fails_at_load"]);
        assert!(keeps.as_f64() < fails.as_f64(), "{keeps} {fails}");
        assert_eq!(told["what_if"][0]["change"], "one endpoint more of wafer");
        assert_eq!(told["what_if"][0]["at"]["pools"][1]["endpoints"], 2);
    });
}

/// The hours of the month in which the clock of a simulation begins.
const HOURS_OF_NOVEMBER: f64 = 720.0;

#[test]
fn what_is_owed_is_compared_with_what_was_used_of_it() {
    beside_others(async {
        let owed = format!("{PORTFOLIO}\n[pool.gpu.commitment]\nusd_per_month = 1000\n");
        let files = Files::new(PROCESS, &owed, POLICY);
        let told = json(&files, &["--load", "1.0", "--brief"]);
        let [gpu, wafer] = [0, 1].map(|pool| &told["loads"][0]["pools"][pool]);
        let used = gpu["commitment_used"].as_f64().expect("it is owed");
        let expected = gpu["usd_per_hour"].as_f64().expect("a price") * HOURS_OF_NOVEMBER / 1000.0;
        assert!((used / expected - 1.0).abs() < 0.01, "{used} instead of {expected}");
        assert!(wafer["commitment_used"].is_null(), "{wafer:#}");
        let (_, text, _) = simulate(&files, &with(&["--load", "1.0", "--brief"]));
        assert!(text.contains("of owed"), "{text}");
    });
}

#[test]
fn a_lost_pool_and_a_class_of_ones_own_are_what_they_say() {
    beside_others(async {
        let policy = "name = \"own\"\n[class.voice]\nttft_ms = 500\nitl_ms = 14\n[class.jobs]\ndeadline_s = 20\n";
        let files = Files::new(PROCESS, PORTFOLIO, policy);
        let told = json(&files, &["--load", "1", "--classes", "voice=1,jobs=3", "--without-site", "fjord"]);
        let count = |class: usize| told["loads"][0]["classes"][class]["requests"].as_f64().expect("a count");
        assert!((count(1) / count(0) - 3.0).abs() < 0.5, "{told:#}");
        let lost = &told["what_if"][0]["at"];
        assert_eq!(lost["pools"][1]["sent"], 0, "nobody is there: {lost:#}");
        assert_eq!(lost["pools"][0]["sent"], lost["simulated_requests"], "all go to the other pool: {lost:#}");
        let part = json(&files, &["--load", "1", "--brief", "--classes", "jobs=1", "--model", "gpt-oss-120b"]);
        assert_eq!((part["limit"].is_null(), part["loads"][0]["classes"].as_array().map(Vec::len)), (true, Some(1)));
    });
}

#[test]
fn a_part_of_a_large_fleet_stands_for_all_of_it() {
    beside_others(async {
        let many = |name: &str, count: usize| -> Vec<String> {
            (0..count).map(|index| format!("http://{name}-{index}")).collect()
        };
        let large = PORTFOLIO
            .replace("[\"http://gpu-1\", \"http://gpu-2\"]", &format!("{:?}", many("gpu", 32)))
            .replace("[\"http://wafer-1\"]", &format!("{:?}", many("wafer", 16)))
            .replace("= 120,", "= 1920,")
            .replace("300_000", "4_800_000");
        let large = format!("{large}\n[pool.gpu.commitment]\nusd_per_month = 16_000\n");
        let files = Files::new(PROCESS, &large, POLICY);
        let arguments = ["--rps", "48", "--hours", "0.02", "--load", "1", "--brief", "--json", "-"];
        let run = |more: &[&str]| -> Value {
            let (status, told, wrong) = simulate(&files, &[&arguments, more].concat());
            assert_eq!(status, Some(0), "{wrong}");
            serde_json::from_str(&told).expect("one object")
        };
        let (all, part) = (run(&[]), run(&["--one-in", "4"]));
        assert_eq!((&all["endpoints"], &part["endpoints"]), (&48.into(), &48.into()));
        // A smaller fleet evens out less, so its price is higher; no figure is that of a quarter.
        for (figure, within) in [("requests_per_s", 0.1), ("attainment", 0.05), ("kw", 0.2), ("usd_per_hour", 0.4)] {
            let [all, part] = [&all, &part].map(|side| side["loads"][0][figure].as_f64().expect("a figure"));
            assert!((part / all - 1.0).abs() < within, "{figure}: {part} of a part stands for {all}");
        }
        let used = |side: &Value| side["loads"][0]["pools"][0]["commitment_used"].as_f64().expect("it is owed");
        assert!((used(&part) / used(&all) - 1.0).abs() < 0.4, "{} of {}", used(&part), used(&all));
        let (status, _, wrong) = simulate(&files, &[&arguments[..], &["--one-in", "5"]].concat());
        assert_eq!(status, Some(1));
        assert!(wrong.contains("--one-in 5 does not divide pool `gpu`, which has 32 endpoints"), "{wrong}");
    });
}

#[test]
fn what_cannot_be_used_is_told_with_what_to_do() {
    beside_others(async {
        let files = Files::new(PROCESS, PORTFOLIO, POLICY);
        files.write("trace.csv", "t_s,client,input_tokens,output_tokens\n1,a,10,x\n");
        let refused = |arguments: &[&str], told: &str| {
            let (status, stdout, stderr) = simulate(&files, arguments);
            assert_ne!(status, Some(0), "{stdout}");
            assert!(stderr.contains(told), "expected `{told}`:\n{stderr}");
        };
        refused(&[], "--trace");
        refused(&["--trace", "none.csv"], "none.csv: cannot be read");
        refused(&["--trace", "trace.csv"], "trace.csv:2: `x` is not the length of a answer");
        refused(&["--rps", "0"], "--rps 0 is not a number above zero");
        refused(&["--rps", "1", "--load", "0"], "--load 0 is not above zero");
        refused(&["--rps", "1", "--input", "10,5"], "the ninetieth percentile 5 is below the median 10");
        refused(&["--rps", "1", "--model", "gpt-oss-12b"], "did you mean `gpt-oss-120b`?");
        refused(&["--rps", "1", "--classes", "realtme=1"], "did you mean `realtime`?");
        refused(&["--rps", "1", "--classes", "realtime"], "write `CLASS=PART`");
        refused(&["--rps", "1", "--what-if", "pool.wafr.endpoints+1"], "did you mean `wafer`?");
        refused(&["--rps", "1", "--what-if", "pool.wafer.endpoint+1"], "pool.NAME.endpoints+1");
        refused(&["--rps", "1", "--what-if", "pool.gpu.limits*2"], "pool `gpu` has no limits");
        refused(&["--rps", "1", "--without-site", "valey"], "did you mean `valley`?");
        refused(&["--rps", "100000", "--hours", "24"], "do not fit into memory");
        files.write("policy.toml", "name = \"own\"\n[class.voice]\nttft_ms = 500\n");
        refused(&["--rps", "1"], "the policy has no class `realtime`; say which part");
        files.write("policy.toml", "name = \"own\"\n[clas.voice]\n");
        refused(&["--rps", "1"], "did you mean `class`?");
    });
}
