//! A candidate on trial: which requests it decides, whether it does worse, how far it agrees. Counts and arithmetic
//! only; whoever runs the trial keeps them and acts on them.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::facts::Facts;
use crate::policy::{Canary, CanaryKey};

/// Whether a canary does worse than the policy in force.
pub mod guard;
/// What a shadow would have done otherwise.
pub mod agreement;

/// The two policies of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// The policy in force.
    Incumbent,
    /// The one on trial.
    Candidate,
}

impl Arm {
    /// The name in metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Arm::Incumbent => "incumbent",
            Arm::Candidate => "candidate",
        }
    }
}

/// Draws shares for one candidate. The same key gets the same answer on every replica and after every start; between
/// candidates the answers have nothing to do with each other, so that no session is always the one to be tried upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lot {
    salt: u64,
}

impl Lot {
    /// By the candidate's text, or a hash of it.
    pub fn of(candidate: &str) -> Lot {
        Lot { salt: xxh3_64(candidate.as_bytes()) }
    }

    /// Whether a key is among this share of all keys. A larger share holds every key of a smaller one.
    pub fn draws(&self, key: &str, share: f64) -> bool {
        let hash = xxh3_64_with_seed(key.as_bytes(), self.salt);
        share >= 1.0 || (hash as f64) < share * 2_f64.powi(64)
    }

    /// Who decides a request under a canary.
    pub fn arm(&self, canary: &Canary, facts: &Facts<'_>, request_id: &str) -> Arm {
        let whole = !facts.tenant.is_empty() && canary.tenants.iter().any(|tenant| tenant == facts.tenant);
        let drawn = whole || self.draws(key(canary, facts, request_id), canary.share);
        if drawn { Arm::Candidate } else { Arm::Incumbent }
    }

    /// A number that is the same for the requests that a canary keeps together.
    pub fn unit(&self, canary: &Canary, facts: &Facts<'_>, request_id: &str) -> u64 {
        xxh3_64_with_seed(key(canary, facts, request_id).as_bytes(), self.salt)
    }
}

fn key<'k>(canary: &Canary, facts: &Facts<'k>, request_id: &'k str) -> &'k str {
    let key = match canary.by {
        CanaryKey::Session => facts.session,
        CanaryKey::Tenant => facts.tenant,
        CanaryKey::Request => "",
    };
    if key.is_empty() { request_id } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Api;
    use crate::policy::Guard;

    fn canary(share: f64, by: CanaryKey) -> Canary {
        let guard = Guard { margin: 0.02, confidence: 0.99, min_requests: 100 };
        Canary { share, by, tenants: vec!["tester".to_owned()], guard }
    }

    fn arm(candidate: &str, canary: &Canary, session: &str, tenant: &str, request: &str) -> Arm {
        let facts = Facts { session, tenant, ..Facts::plain(Api::ChatCompletions, "m") };
        Lot::of(candidate).arm(canary, &facts, request)
    }

    #[test]
    fn a_share_is_about_the_share_and_grows_without_moving_anyone_back() {
        let lot = Lot::of("candidate");
        let keys: Vec<String> = (0..20_000).map(|key| format!("session-{key}")).collect();
        let drawn = |share| keys.iter().filter(|key| lot.draws(key, share)).count();
        for share in [0.0, 0.01, 0.05, 0.5, 1.0] {
            let expected = share * keys.len() as f64;
            assert!((drawn(share) as f64 - expected).abs() <= 4.0 * expected.sqrt(), "{share}: {}", drawn(share));
        }
        assert!(keys.iter().all(|key| !lot.draws(key, 0.05) || lot.draws(key, 0.2)));
    }

    #[test]
    fn shares_of_two_candidates_are_independent() {
        let (one, other) = (Lot::of("one"), Lot::of("other"));
        let both = (0..20_000).map(|key| format!("{key}")).filter(|key| one.draws(key, 0.1) && other.draws(key, 0.1));
        let both = both.count();
        assert!((120..280).contains(&both), "{both} of 20,000 where 200 are expected");
    }

    #[test]
    fn what_belongs_together_stays_together() {
        let by_session = canary(0.5, CanaryKey::Session);
        for session in 0..200 {
            let session = format!("s{session}");
            let first = arm("c", &by_session, &session, "", "r1");
            assert!((2..20).all(|request| arm("c", &by_session, &session, "", &format!("r{request}")) == first));
        }
        let by_tenant = canary(0.5, CanaryKey::Tenant);
        assert_eq!(arm("c", &by_tenant, "s1", "acme", "r1"), arm("c", &by_tenant, "s2", "acme", "r2"));
        let by_request = canary(0.5, CanaryKey::Request);
        let arms: Vec<Arm> = (0..64).map(|request| arm("c", &by_request, "s", "t", &format!("r{request}"))).collect();
        assert!(arms.contains(&Arm::Candidate) && arms.contains(&Arm::Incumbent));
    }

    #[test]
    fn a_request_without_session_is_drawn_for_itself_and_a_named_tenant_gets_it_whole() {
        let by_session = canary(0.5, CanaryKey::Session);
        let arms: Vec<Arm> = (0..64).map(|request| arm("c", &by_session, "", "", &format!("r{request}"))).collect();
        assert!(arms.contains(&Arm::Candidate) && arms.contains(&Arm::Incumbent));
        let nobody = canary(0.0, CanaryKey::Session);
        assert_eq!(arm("c", &nobody, "s", "tester", "r"), Arm::Candidate);
        assert_eq!(arm("c", &nobody, "s", "somebody", "r"), Arm::Incumbent);
    }
}
