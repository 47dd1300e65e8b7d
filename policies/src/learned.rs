//! What experience says of the machines in place of the portfolio's figures: how pools serve, how far predictions can be
//! trusted, what work costs beside its price. Published whole by whoever learns; a decision reads one state of it.

use std::collections::BTreeMap;

use crate::fleet::{HardwareKind, ServiceModel};
use crate::price::{PoolPrice, Used};

/// How much of a bound is planned with where nothing has been learned, on machines that batch: others who come while a
/// request runs make it slower.
const BATCHING: Margin = Margin { ttft: 0.8, itl: 0.7 };
/// The same of a machine with flat decode, which keeps its pace; what remains is jitter.
const FLAT: Margin = Margin { ttft: 0.85, itl: 0.85 };

/// Everything learned. Indices are those of the portfolio it was learned for; what is missing is taken from the
/// portfolio's figures and the priors here.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Learned {
    /// How each pool serves, in the order of the portfolio.
    pub services: Vec<ServiceModel>,
    /// How far predictions are trusted, by the name of the class: a policy that is tried, or that replays what another
    /// one did, has an order of its own.
    pub margins: BTreeMap<String, ClassMargins>,
    /// What work costs beside its price, by pool.
    pub prices: Vec<PoolPrice>,
    /// What has been used of what `[limits]` allow.
    #[serde(default)]
    pub used: Used,
    /// How well the way in which each pool serves is known; empty where all are known well.
    #[serde(default)]
    pub known: Vec<Known>,
}

/// How well the way in which a pool serves is known; what is worth a look comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// It has answered few requests since the beginning or since it changed, or seems to change now.
    Little,
    /// It has answered nobody for long.
    LongAgo,
    /// By what it does.
    #[default]
    Well,
}

/// The part of a promise that predictions may use up.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Margin {
    /// Of the time to first token, and of deadlines.
    pub ttft: f64,
    /// Of the time per output token.
    pub itl: f64,
}

/// The margins of one class, by kind of hardware in the order of [`HardwareKind::ALL`].
pub type ClassMargins = [Margin; HardwareKind::ALL.len()];

impl Learned {
    /// Nothing yet.
    pub fn nothing() -> &'static Learned {
        static NOTHING: Learned = Learned {
            services: Vec::new(),
            margins: BTreeMap::new(),
            prices: Vec::new(),
            used: Used { budget: None, tokens: Vec::new() },
            known: Vec::new(),
        };
        &NOTHING
    }

    /// The margins of a class, by its name.
    pub fn margins(&self, class: &str) -> ClassMargins {
        self.margins.get(class).copied().unwrap_or_else(|| HardwareKind::ALL.map(Margin::prior))
    }

    /// What work costs on a pool beside its price.
    pub fn price(&self, pool: usize) -> PoolPrice {
        self.prices.get(pool).copied().unwrap_or_default()
    }
}

impl Margin {
    /// That of a class on a kind of hardware.
    pub fn on(kind: HardwareKind, margins: &ClassMargins) -> Margin {
        margins.get(kind as usize).copied().unwrap_or_else(|| Margin::prior(kind))
    }

    /// Where nothing has been learned.
    pub fn prior(kind: HardwareKind) -> Margin {
        if crate::estimate::batches(kind) { BATCHING } else { FLAT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_is_found_under_its_class_and_kind_or_is_the_prior() {
        let mut margins = HardwareKind::ALL.map(Margin::prior);
        let learned = Margin { ttft: 0.7, itl: 0.6 };
        for (kind, margin) in HardwareKind::ALL.into_iter().zip(&mut margins) {
            if kind == HardwareKind::Wafer {
                *margin = learned;
            }
        }
        let known = Learned { margins: [("voice".to_owned(), margins)].into(), ..Learned::default() };
        let margin = |class, kind| Margin::on(kind, &known.margins(class));
        assert_eq!(margin("voice", HardwareKind::Wafer), learned);
        assert_eq!(margin("voice", HardwareKind::Gpu), Margin { ttft: 0.8, itl: 0.7 });
        assert_eq!(margin("batch", HardwareKind::Wafer), Margin { ttft: 0.85, itl: 0.85 });
    }
}
