//! Every format is read, and what cannot be read is told with its place.

use super::*;

#[track_caller]
fn rows(text: &str) -> Vec<(u64, u32, u32)> {
    let trace = Trace::parse("t", text).map_err(|Problem(line, problem, _)| format!("{line:?}: {problem}"));
    trace.expect("a trace").rows.iter().map(|row| (row.at.0, row.input_tokens, row.output_tokens)).collect()
}

#[track_caller]
fn refused(text: &str, line: Option<usize>, told: &str) {
    let Err(Problem(at, problem, _)) = Trace::parse("t", text) else { panic!("{text:?} was read") };
    assert_eq!((at, problem.as_str()), (line, told));
}

#[test]
fn azure_rows_count_from_the_first_and_keep_their_fractions() {
    let text =
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n\n2023-11-16 18:16:00,396,109\n";
    assert_eq!(rows(text), [(0, 374, 44), (13_319_410, 396, 109)]);
    let later =
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-02-29 23:59:59.5+00:00,1,2\n2024-03-01T00:00:00Z,3,0\r\n";
    assert_eq!(rows(later), [(0, 1, 2), (500_000, 3, 1)]);
}

#[test]
fn rows_of_clients_are_put_in_order_and_keep_their_client() {
    let trace = Trace::parse("t", "t_s,client,input_tokens,output_tokens\n2.5,b,10,20\n1.0,a,30,40\n3,b,5,6\n");
    let trace = trace.ok().expect("a trace");
    assert_eq!(trace.clients, ["b", "a"]);
    let told: Vec<_> = trace.rows.iter().map(|row| (row.at.0, row.input_tokens, row.client)).collect();
    assert_eq!(told, [(0, 30, Some(1)), (1_500_000, 10, Some(0)), (2_000_000, 5, Some(0))]);
}

#[test]
fn times_may_be_milliseconds_and_comments_are_left_out() {
    let text =
        "# from somewhere\n# more\nt_ms,source,input_tokens,output_tokens\n53,conv,382,84\n257.5,conv,1318,192\n";
    assert_eq!(rows(text), [(0, 382, 84), (204_500, 1318, 192)]);
    refused("# a\nt_ms,input_tokens,output_tokens\nx,1,2\n", Some(3), "`x` is not a time");
}

#[test]
fn mooncake_rows_keep_the_hashes_of_their_prompts() {
    let text = r#"{"timestamp": 10, "input_length": 1030, "output_length": 6, "hash_ids": [7, 8, 9]}
{"timestamp": 50, "input_length": 600, "output_length": 1, "hash_ids": [7, 4]}"#;
    let trace = Trace::parse("t", text).ok().expect("a trace");
    let told: Vec<_> = trace.rows.iter().map(|row| (row.at.0, trace.blocks(row))).collect();
    assert_eq!(told, [(0, [7, 8, 9].as_slice()), (40_000, [7, 4].as_slice())]);
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    refused("", None, "is empty");
    refused("TIMESTAMP,ContextTokens,GeneratedTokens\n", None, "has a header and no request");
    refused("a,b\n1,2\n", Some(1), "`a,b` is the header of no known format");
    refused("t_s,client,input_tokens,output_tokens\n1,a,2,3\n2,a,x,3\n", Some(3), "`x` is not the length of a prompt");
    refused("t_s,client,input_tokens,output_tokens\n-1,a,2,3\n", Some(2), "`-1` is not a time");
    refused("t_s,client,input_tokens,output_tokens\n1,a,2\n", Some(2), "has no `the answer's tokens`");
    refused("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n", Some(2), "`yesterday` is not a time");
    let many = "the prompt has 999999999999 tokens, more than any model takes";
    refused("t_s,client,input_tokens,output_tokens\n1,a,999999999999,3\n", Some(2), many);
    refused("{\"timestamp\": 1}\n", Some(1), "missing field `input_length` at line 1 column 16");
}

#[test]
fn a_file_that_is_not_there_is_told_by_its_name() {
    let error = Trace::load(Path::new("no-such-trace.csv")).expect_err("it is not there");
    assert!(error.to_string().starts_with("no-such-trace.csv: cannot be read: "), "{error}");
}
