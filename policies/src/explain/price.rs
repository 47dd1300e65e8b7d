//! Why a price counts as more or less than it is.

use super::figures::count;
use crate::fleet::PoolFacts;
use crate::price::{JOULES_PER_KWH, PoolPrice};

/// What is cached of a prompt, in words.
pub(super) fn cached(cached_tokens: u64, input_tokens: u64) -> Option<String> {
    let (part, all) = (count(cached_tokens), count(input_tokens));
    (cached_tokens > 0).then(|| format!("{part} of the prompt's {all} tokens are in its cache"))
}

/// What makes work on a pool cheaper or dearer than its price, in words: `commitment lags by 12 %`.
pub(super) fn reasons(price: &PoolPrice, pool: &PoolFacts, usd_per_tonne_co2: Option<f64>) -> Vec<String> {
    let percent = |part: f64| format!("{:.0} %", part * 100.0);
    let more = |part: f64| format!("dollars count {} more", percent(part));
    let commitment = (price.credit > 0.0).then(|| {
        let lags = price.behind.max(0.0);
        format!("its commitment lags by {}, {} of the price are owed anyway", percent(lags), percent(price.credit))
    });
    let budget = (price.budget_lambda > 0.0).then(|| format!("a budget runs ahead, {}", more(price.budget_lambda)));
    let vendor = (price.vendor_lambda > 0.0)
        .then(|| format!("`{}` nears its share, {}", pool.vendor, more(price.vendor_lambda)));
    let per_kwh = |usd_per_joule: f64| usd_per_joule * JOULES_PER_KWH;
    let scarce = (price.usd_per_joule > 0.0)
        .then(|| format!("power of `{}` is scarce, ${:.2} a kWh more", pool.site, per_kwh(price.usd_per_joule)));
    let electricity = pool.usd_per_kwh.filter(|usd| *usd > 0.0).map(|usd| format!("electricity at ${usd:.2} a kWh"));
    let carbon = usd_per_tonne_co2.zip(pool.carbon_g_per_kwh).filter(|(usd, _)| *usd > 0.0);
    let carbon = carbon.map(|(usd, grams)| format!("carbon at ${usd:.0} a tonne, {grams:.0} g a kWh"));
    [commitment, budget, vendor, scarce, electricity, carbon].into_iter().flatten().collect()
}
