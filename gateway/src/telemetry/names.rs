//! Every name of a span, attribute and metric: the semantic conventions' where they have one, our own under one prefix
//! elsewhere. A snapshot of the whole table with kinds and units lies in `snapshots` beside this file.

/// The version of OpenTelemetry's semantic conventions that the names below are of.
pub const CONVENTIONS: &str = "1.41.0";

/// Names of attributes.
pub mod attribute {
    /// Request method.
    pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
    /// Path template.
    pub const HTTP_ROUTE: &str = "http.route";
    /// Status of an answer.
    pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
    /// Which attempt this is, from 1; on attempts after the first.
    pub const HTTP_REQUEST_RESEND_COUNT: &str = "http.request.resend_count";
    /// Address of a machine.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// Low-cardinality reason of a failure.
    pub const ERROR_TYPE: &str = "error.type";
    /// `chat`, `text_completion`, `embeddings`.
    pub const GEN_AI_OPERATION_NAME: &str = "gen_ai.operation.name";
    /// Who serves.
    pub const GEN_AI_PROVIDER_NAME: &str = "gen_ai.provider.name";
    /// The model as asked for.
    pub const GEN_AI_REQUEST_MODEL: &str = "gen_ai.request.model";
    /// Tokens of the prompt.
    pub const GEN_AI_USAGE_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
    /// Tokens of the answer.
    pub const GEN_AI_USAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
    /// Prompt tokens that the machine had in its prefix cache, as it says.
    pub const GEN_AI_USAGE_CACHED_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
    /// Prompt tokens that it was believed to have there.
    pub const CACHED_TOKENS: &str = "pointsman.cached_tokens";
    /// Whether it was a home of the request.
    pub const HOME: &str = "pointsman.home";
    /// Whether an attempt was made beside one that was slow.
    pub const HEDGE: &str = "pointsman.hedge";
    /// Whether the tokens are counted by the gateway, because the machine reported none, or told of a part of the answer only.
    pub const USAGE_ESTIMATED: &str = "pointsman.usage_estimated";
    /// What a span is, for OpenInference viewers.
    pub const OPENINFERENCE_SPAN_KIND: &str = "openinference.span.kind";
    /// Who called, where it was asked.
    pub const CALLER: &str = "pointsman.caller";
    /// What proved it.
    pub const CALLER_BY: &str = "pointsman.caller_by";
    /// The request's id.
    pub const REQUEST_ID: &str = "pointsman.request_id";
    /// Its class.
    pub const CLASS: &str = "pointsman.class";
    /// What named the class.
    pub const CLASSIFIED_BY: &str = "pointsman.classified_by";
    /// `NAME@GENERATION`.
    pub const POLICY: &str = "pointsman.policy";
    /// Hash of the configuration.
    pub const CONFIG_HASH: &str = "pointsman.config_hash";
    /// The route that matched.
    pub const ROUTE: &str = "pointsman.route";
    /// Name of an endpoint.
    pub const ENDPOINT: &str = "pointsman.endpoint";
    /// Name of a pool.
    pub const POOL: &str = "pointsman.pool";
    /// Kind of hardware.
    pub const HARDWARE: &str = "pointsman.hardware";
    /// How a request ended.
    pub const OUTCOME: &str = "pointsman.outcome";
    /// Attempts made.
    pub const ATTEMPTS: &str = "pointsman.attempts";
    /// Why it was not tried again, where that is its route's budget for retries.
    pub const RETRIES_SPENT: &str = "pointsman.retries_spent";
    /// How often its stream went on on another machine.
    pub const CONTINUED: &str = "pointsman.continued";
    /// Why a stream that broke did not go on on another machine.
    pub const NOT_CONTINUED: &str = "pointsman.not_continued";
    /// Time to first token, milliseconds.
    pub const TTFT_MS: &str = "pointsman.ttft_ms";
    /// Time per output token, milliseconds.
    pub const ITL_MS: &str = "pointsman.itl_ms";
    /// Price, US dollars.
    pub const COST_USD: &str = "pointsman.cost_usd";
    /// Energy, joules, modelled.
    pub const ENERGY_J: &str = "pointsman.energy_joules";
    /// Why a candidate was or was not chosen.
    pub const REASON: &str = "pointsman.reason";
    /// Requests that stood before it when it came to be held.
    pub const QUEUE_AHEAD: &str = "pointsman.queue.ahead";
    /// How often it moved from one pool's line to another's.
    pub const QUEUE_MOVED: &str = "pointsman.queue.moved";
    /// How much later it could have been sent when it came to be held, milliseconds.
    pub const QUEUE_SLACK_MS: &str = "pointsman.queue.slack_ms";
    /// How it stopped being held.
    pub const QUEUE_END: &str = "pointsman.queue.end";
    /// Parts of the SLO that were missed.
    pub const SLO_MISSED: &str = "pointsman.slo_missed";
}

/// Names of spans and span events.
pub mod span {
    /// Naming the class.
    pub const CLASSIFY: &str = "classify";
    /// Being held until a machine has room.
    pub const QUEUE: &str = "pointsman.queue";
    /// One candidate of the decision, an event.
    pub const CANDIDATE: &str = "candidate";
    /// The first token, an event.
    pub const FIRST_TOKEN: &str = "first_token";
}

/// Names of metrics as Prometheus shows them. Counters get `_total`, histograms their parts.
pub mod metric {
    /// Requests by class, pool, hardware and outcome.
    pub const REQUESTS: &str = "pointsman_requests";
    /// Open connections of clients.
    pub const CONNECTIONS: &str = "pointsman_client_connections";
    /// Connections of clients that were ended at once, by reason.
    pub const CONNECTIONS_CUT: &str = "pointsman_client_connections_cut";
    /// Connections of clients that were asked to end, by reason.
    pub const CONNECTIONS_ASKED: &str = "pointsman_client_connections_asked_to_end";
    /// Connections that could not be accepted, by reason.
    pub const NOT_ACCEPTED: &str = "pointsman_client_connections_not_accepted";
    /// Memory of the process.
    pub const MEMORY_USED: &str = "pointsman_memory_used_bytes";
    /// What it may use.
    pub const MEMORY_LIMIT: &str = "pointsman_memory_limit_bytes";
    /// How much is given up because memory is short.
    pub const OVERLOAD: &str = "pointsman_overload_level";
    /// Bytes of answers that wait for their clients.
    pub const KEPT_FOR_CLIENTS: &str = "pointsman_kept_for_clients_bytes";
    /// Bytes of requests and answers that wait for their streams to break.
    pub const KEPT_FOR_CONTINUATION: &str = "pointsman_kept_for_continuation_bytes";
    /// Failed attempts by pool and cause.
    pub const ATTEMPT_FAILURES: &str = "pointsman_attempt_failures";
    /// Parts of SLOs kept and missed.
    pub const SLO_EVENTS: &str = "pointsman_slo_events";
    /// The share of requests that shall keep a part of an SLO.
    pub const SLO_OBJECTIVE: &str = "pointsman_slo_objective_ratio";
    /// Tokens by class, pool and direction.
    pub const TOKENS: &str = "pointsman_tokens";
    /// Dollars by class and pool.
    pub const COST_USD: &str = "pointsman_cost_usd";
    /// Joules by class, pool and source.
    pub const ENERGY_JOULES: &str = "pointsman_energy_joules";
    /// Time to first token.
    pub const TTFT: &str = "gen_ai_server_time_to_first_token_seconds";
    /// Time per output token.
    pub const ITL: &str = "gen_ai_server_time_per_output_token_seconds";
    /// Tokens of a request by type.
    pub const TOKEN_USAGE: &str = "gen_ai_client_token_usage";
    /// Whole requests.
    pub const DURATION: &str = "gen_ai_server_request_duration_seconds";
    /// From the last byte of a request to the plan.
    pub const OVERHEAD: &str = "pointsman_decision_seconds";
    /// The decision alone, from the class to the plan.
    pub const DECIDE: &str = "pointsman_decide_seconds";
    /// How long requests were held.
    pub const QUEUE_TIME: &str = "pointsman_queue_seconds";
    /// Requests held now.
    pub const QUEUE_HELD: &str = "pointsman_queue_held";
    /// Requests that were held, by how that ended.
    pub const QUEUE_ENDED: &str = "pointsman_queue_ended";
    /// Moves of held requests from one pool's line to another's.
    pub const QUEUE_MOVES: &str = "pointsman_queue_moves";
    /// Second attempts beside slow ones, by how they ended.
    pub const HEDGES: &str = "pointsman_hedges";
    /// Further attempts after failed ones, made and refused by the route's budget.
    pub const RETRIES: &str = "pointsman_retries";
    /// Requests that had to say who calls, by proof and result.
    pub const IDENTIFIED: &str = "pointsman_identified_requests";
    /// Requests by caller and outcome.
    pub const CALLER_REQUESTS: &str = "pointsman_caller_requests";
    /// Whether keys and certificates as they are now are in force.
    pub const CREDENTIALS_OK: &str = "pointsman_credentials_ok";
    /// Keys and certificates taken up and refused.
    pub const CREDENTIALS_READ: &str = "pointsman_credentials_reads";
    /// When certificates end.
    pub const CERTIFICATE_ENDS: &str = "pointsman_certificate_end_timestamp_seconds";
    /// Streams that broke, by whether they went on on another machine.
    pub const BROKEN_STREAMS: &str = "pointsman_broken_streams";
    /// The generation in force.
    pub const GENERATION: &str = "pointsman_policy_generation";
    /// The policy in force, by name and hash.
    pub const POLICY: &str = "pointsman_policy_info";
    /// Whether the files as they are now are in force.
    pub const RELOAD_OK: &str = "pointsman_last_reload_ok";
    /// Reloads by result.
    pub const RELOADS: &str = "pointsman_reloads";
    /// Requests by policy on trial, class and whether the promise was kept.
    pub const TRIAL_REQUESTS: &str = "pointsman_trial_requests";
    /// Canaries rolled back by their guard.
    pub const TRIAL_ROLLBACKS: &str = "pointsman_trial_rollbacks";
    /// Decisions compared with a shadow's, by result.
    pub const SHADOW_DECISIONS: &str = "pointsman_shadow_decisions";
    /// Records that telemetry could not take.
    pub const RECORDS_DROPPED: &str = "pointsman_records_dropped";
    /// Decisions by what became of them while recording.
    pub const DECISIONS_RECORDED: &str = "pointsman_decisions_recorded";
    /// Spans by what became of them.
    pub const SPANS: &str = "pointsman_spans";
    /// How far predictions are off, by pool.
    pub const PREDICTION_ERROR: &str = "pointsman_prediction_error";
    /// How far predictions are trusted, by class and hardware.
    pub const MARGIN: &str = "pointsman_margin";
    /// Load that nobody tells of, by endpoint.
    pub const HIDDEN_LOAD: &str = "pointsman_hidden_load_factor";
    /// Machines that were found changed.
    pub const DRIFTS: &str = "pointsman_drifts";
    /// Age of what engines say of themselves.
    pub const REPORT_AGE: &str = "pointsman_engine_metrics_age_seconds";
    /// What one dollar of a pool's price counts as.
    pub const PRICE_FACTOR: &str = "pointsman_pool_price_factor";
    /// What one joule counts as, by pool.
    pub const USD_PER_JOULE: &str = "pointsman_pool_usd_per_joule";
    /// The part of a committed pool's price that is owed anyway.
    pub const CREDIT: &str = "pointsman_pool_commitment_credit";
    /// Owed for a pool by now.
    pub const OWED: &str = "pointsman_pool_commitment_owed";
    /// Consumed of what is owed for a pool.
    pub const CONSUMED: &str = "pointsman_pool_commitment_consumed";
    /// A budget.
    pub const BUDGET: &str = "pointsman_budget_usd";
    /// Spent of a budget.
    pub const SPENT: &str = "pointsman_budget_spent_usd";
    /// How many classes give way to a budget.
    pub const BUDGET_LAMBDA: &str = "pointsman_budget_lambda";
    /// What a site draws.
    pub const SITE_POWER: &str = "pointsman_site_power_kw";
    /// What a site may draw.
    pub const SITE_CAP: &str = "pointsman_site_power_cap_kw";
    /// What scarce power adds to the price of a joule, by site.
    pub const SITE_USD_PER_JOULE: &str = "pointsman_site_usd_per_joule";
    /// A vendor's part of all tokens.
    pub const VENDOR_SHARE: &str = "pointsman_vendor_share";
    /// The part that is allowed.
    pub const VENDOR_SHARE_ALLOWED: &str = "pointsman_vendor_share_allowed";
    /// Requests in flight by endpoint.
    pub const IN_FLIGHT: &str = "pointsman_endpoint_in_flight";
    /// Whether an endpoint may be asked.
    pub const AVAILABLE: &str = "pointsman_endpoint_available";
    /// The state of an endpoint.
    pub const ENDPOINT_STATE: &str = "pointsman_endpoint_state";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    /// Constants of one module of this file, in order.
    fn names(module: &str) -> Vec<&'static str> {
        let table = include_str!("names.rs").split("#[cfg(test)]").next().unwrap_or_default();
        let (_, rest) = table.split_once(&format!("pub mod {module} {{")).expect("the module");
        let (inside, _) = rest.split_once("\n}").expect("its end");
        inside.lines().filter_map(|line| line.split('"').nth(1)).collect()
    }

    #[test]
    fn the_table_of_names_is_as_it_was() {
        let mut table = format!("semantic conventions {CONVENTIONS}\n");
        for module in ["span", "attribute"] {
            names(module).iter().for_each(|name| table += &format!("{module} {name}\n"));
        }
        let metrics = Metrics::default();
        let (names, kinds) = (names("metric"), metrics.kinds());
        for name in &names {
            let Some(kind) = kinds.iter().find(|kind| kind.name == *name) else { panic!("`{name}` is not registered") };
            table += &format!("metric {name} {} {}\n", kind.kind, kind.unit);
        }
        assert_eq!(kinds.len(), names.len(), "each metric has its name from the table");
        insta::assert_snapshot!(table);
    }
}
