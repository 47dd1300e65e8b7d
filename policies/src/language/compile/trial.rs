//! Candidates on probation.

use super::super::diagnostic::Diagnostic;
use super::super::located::Located;
use super::super::shape::{CanaryKeyName, CanaryTable, ShadowTable};
use super::Compiler;
use crate::policy::{Canary, CanaryKey, Guard, Trial, TrialMode};

impl Compiler<'_> {
    /// One candidate at a time: what two of them do to each other could not be told apart.
    pub(super) fn compile_trial(
        &mut self,
        shadow: Option<Located<ShadowTable>>,
        canary: Option<Located<CanaryTable>>,
    ) -> Option<Trial> {
        match (shadow, canary) {
            (None, None) => None,
            (Some(shadow), None) => {
                let ShadowTable { policy, sample } = shadow.value;
                Some(Trial { policy: policy.value, span: policy.span, mode: TrialMode::Shadow { sample } })
            }
            (None, Some(canary)) => Some(compile_canary(canary.value)),
            (Some(shadow), Some(canary)) => {
                let problem = Diagnostic::error("two-trials", "`[shadow]` and `[canary]` are both given");
                let problem = problem.at(canary.span).also(shadow.span, "the other");
                self.report.push(problem.help("try one candidate at a time: first shadow, then canary"));
                None
            }
        }
    }
}

fn compile_canary(table: CanaryTable) -> Trial {
    let canary = Canary {
        share: table.share,
        by: match table.by {
            CanaryKeyName::Session => CanaryKey::Session,
            CanaryKeyName::Tenant => CanaryKey::Tenant,
            CanaryKeyName::Request => CanaryKey::Request,
        },
        tenants: table.tenants,
        guard: Guard {
            margin: table.rollback.margin,
            confidence: table.rollback.confidence,
            min_requests: table.rollback.min_requests,
        },
    };
    Trial { policy: table.policy.value, span: table.policy.span, mode: TrialMode::Canary(canary) }
}
