//! What kind of work it is: facts, and the class that follows from them.

use std::time::SystemTime;

use http::HeaderMap;
use pointsman_backends::learn::output_length::Asked;
use pointsman_policies::classify::{Classified, classify as name_class};
use pointsman_policies::decide::slo;
use pointsman_policies::facts::{Facts, Headers};
use pointsman_policies::policy::ClassId;
use pointsman_policies::refusal::Refusal as Unserved;
use pointsman_policies::trial::Arm;

use super::body::Prompt;
use crate::gateway::Gateway;
use crate::overload::Level;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

/// A prompt with its class.
pub(super) struct Work<'p> {
    /// The prompt.
    pub(super) prompt: &'p Prompt,
    /// Its headers as policies read them.
    pub(super) headers: HeaderView<'p>,
    /// Who decides it.
    pub(super) arm: Arm,
    /// Its class, by that policy.
    pub(super) class: ClassId,
    /// Answer tokens expected.
    output_tokens: u64,
    /// When it came, seconds since 1970.
    unix_s: u64,
}

impl<'p> Work<'p> {
    /// What policies may know of it.
    pub(super) fn facts(&'p self) -> Facts<'p> {
        Facts { output_tokens: self.output_tokens, ..facts(self.prompt, &self.headers, self.unix_s) }
    }
}

/// Headers as policies read them.
pub(super) struct HeaderView<'p>(&'p HeaderMap);

impl Headers for HeaderView<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }
}

/// Names the class, and says how long its answers are.
pub(super) fn classify<'p>(
    gateway: &Gateway,
    snapshot: &Snapshot,
    prompt: &'p Prompt,
    record: &mut Record,
) -> Result<Work<'p>, Refusal> {
    let headers = HeaderView(&prompt.headers);
    let unix_s = record.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let facts = facts(prompt, &headers, unix_s);
    let (arm, classified) = arm_and_class(snapshot, &facts, &record.request_id)
        .ok_or_else(|| Unserved::unknown_class(&prompt.wishes.class, &snapshot.policy))?;
    let class = snapshot.deciding(arm).policy.classes.get(classified.class.0);
    record.class = snapshot.deciding(arm).class_names.get(classified.class.0).cloned();
    record.because = classified.because.as_str();
    record.slo = slo(class, &facts);
    let name = class.map_or("", |class| class.name.as_str());
    if prompt.caller.as_ref().is_some_and(|caller| !caller.scope.classes.admits(name)) {
        return Err(Refusal::Forbidden(format!("its key is not for requests of the class `{name}`")));
    }
    let output_tokens = output_tokens(gateway, prompt, class.map_or("", |class| &class.name), &facts);
    record.classified_at = record.elapsed();
    Ok(Work { prompt, headers, arm, class: classified.class, output_tokens, unix_s })
}

/// What may be shed is, where memory is short.
pub(super) fn refuse_if_short_of_memory(
    gateway: &Gateway,
    snapshot: &Snapshot,
    work: &Work<'_>,
) -> Result<(), Refusal> {
    let sheddable =
        || snapshot.deciding(work.arm).policy.classes.get(work.class.0).is_some_and(|class| class.sheddable);
    if gateway.overload().level() >= Level::Shed && sheddable() { Err(Refusal::Overloaded) } else { Ok(()) }
}

/// The mean by experience, of as many answers as are wanted, cut at the caller's bound.
fn output_tokens(gateway: &Gateway, prompt: &Prompt, class: &str, facts: &Facts<'_>) -> u64 {
    let Facts { tenant, model, input_tokens, max_output_tokens, .. } = *facts;
    let choices = prompt.parsed.text.choices;
    let mean = gateway.learning().output_tokens(&Asked { tenant, model, class, input_tokens }, max_output_tokens);
    (mean * choices as f64).round() as u64
}

/// Who decides, and the class by that policy. What names a class that a candidate has dropped is left to the policy in
/// force.
fn arm_and_class(snapshot: &Snapshot, facts: &Facts<'_>, request_id: &str) -> Option<(Arm, Classified)> {
    let arm = snapshot.arm(facts, request_id);
    let by = |arm| name_class(snapshot.deciding(arm).policy, facts).map(|classified| (arm, classified));
    by(arm).or_else(|| by(Arm::Incumbent))
}

fn facts<'p>(prompt: &'p Prompt, headers: &'p HeaderView<'p>, unix_s: u64) -> Facts<'p> {
    let parsed = &prompt.parsed;
    Facts {
        api: prompt.api,
        path: &prompt.path,
        headers,
        tenant: &prompt.wishes.tenant,
        model: &parsed.model,
        stream: parsed.stream,
        service_tier: &parsed.service_tier,
        declared_class: &prompt.wishes.class,
        input_tokens: parsed.input_tokens,
        max_output_tokens: parsed.max_output_tokens,
        output_tokens: parsed.output_tokens,
        tools: parsed.tools,
        images: parsed.images,
        deadline_ms: prompt.wishes.deadline_ms,
        slo_ttft_ms: prompt.wishes.slo_ttft_ms,
        slo_itl_ms: prompt.wishes.slo_itl_ms,
        session: &prompt.wishes.session,
        prefix: parsed.prefix.home(),
        unix_s,
        waited_ms: 0.0,
    }
}
