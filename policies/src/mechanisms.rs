//! What a decision can do without, to see what each is worth. A gateway that serves has all of it on.

/// Which mechanisms are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanisms {
    /// Who is held goes by urgency; else in the order of coming.
    pub queue: bool,
    /// Nobody is sent where those who are served would lose what they are promised.
    pub victims: bool,
    /// The part of a promise that predictions may use up follows promises kept and missed; else it is the prior.
    pub margins: bool,
    /// Predictions of an endpoint follow load that nobody tells of.
    pub hidden_load: bool,
    /// Service models follow what is observed; else they are the portfolio's and the catalog's.
    pub services: bool,
    /// What endpoints have in their prefix caches counts, and homes do.
    pub affinity: bool,
    /// Work that has time is sent to machines that nobody uses, to learn what has become of them.
    pub exploration: bool,
}

impl Default for Mechanisms {
    fn default() -> Mechanisms {
        Mechanisms {
            queue: true,
            victims: true,
            margins: true,
            hidden_load: true,
            services: true,
            affinity: true,
            exploration: true,
        }
    }
}
