//! What became of every request on both sides, one line each.

use std::fmt::Write;

use pointsman::simulation::workload::Workload;
use pointsman_tests::live::told::Told;

/// The columns.
const HEAD: &str = "seed,number,class,tenant,stream,input,output,bound,read,at_ms,endpoint,attempts,held_ms,known_input,\
    known_output,in_flight,prefill,lease_tokens,expected_ttft_ms,expected_itl_ms,ttft_factor,itl_factor,answered,ttft_ms,\
    itl_ms,total_ms\n";

/// All lines. Seed 0 is the live run.
pub(crate) fn csv<'a>(workload: &Workload, sides: impl Iterator<Item = (usize, &'a Vec<Told>)>) -> String {
    let mut text = HEAD.to_owned();
    for (seed, told) in sides {
        for (number, (request, told)) in workload.requests.iter().zip(told).enumerate() {
            let class = &workload.classes[usize::from(request.class)];
            let known = &told.known;
            let observed = told.observed.unwrap_or_default();
            let or_empty = |ms: Option<f64>| ms.map_or_else(String::new, |ms| format!("{ms:.3}"));
            let endpoint = told.endpoint.map_or_else(String::new, |endpoint| endpoint.to_string());
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "{seed},{number},{class},{},{},{},{},{},{},{:.3},{endpoint},{},{:.3},",
                request.tenant,
                u8::from(request.stream),
                request.input_tokens,
                request.output_tokens,
                request.max_output_tokens,
                request.read_input_tokens,
                told.at_ms,
                told.attempts,
                told.held_ms,
            );
            let _ = write!(
                text,
                "{},{},{},{},{:.0},{:.3},{:.3},{:.4},{:.4},",
                known.input_tokens,
                known.output_tokens,
                known.in_flight,
                known.prefill_tokens,
                known.lease_tokens,
                known.ttft_ms,
                known.itl_ms,
                known.factors.0,
                known.factors.1,
            );
            let _ = writeln!(
                text,
                "{},{},{},{:.3}",
                u8::from(told.observed.is_some()),
                or_empty(observed.ttft_ms),
                or_empty(observed.itl_ms),
                observed.total_ms
            );
        }
    }
    text
}
