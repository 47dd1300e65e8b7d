//! Other portfolios made of one: what if there were more or fewer machines?

use super::{Endpoint, Portfolio, endpoint};
use crate::endpoint::Address;

impl Portfolio {
    /// Puts another endpoint into a pool, at an address that nobody has.
    pub fn add_endpoint(&mut self, pool: usize) {
        let Some((facts, of)) = self.facts.get_mut(pool).zip(self.pools.get(pool)) else { return };
        let mut number = facts.endpoints.len() + 1;
        let added = loop {
            let Ok(address) = Address::parse(&format!("http://added-{number}.invalid")) else { return };
            let added = endpoint(&facts.name, pool, address, of.dialect);
            if !facts.endpoints.iter().any(|known| known == added.id.as_str()) {
                break added;
            }
            number += 1;
        };
        facts.endpoints.push(added.id.to_string());
        let after = self.endpoints.iter().take_while(|endpoint| endpoint.pool <= pool).count();
        self.endpoints.insert(after, added);
    }

    /// Takes endpoints away: those for which `keep` says no. It is told each with its number in its pool.
    pub fn retain_endpoints(&mut self, mut keep: impl FnMut(usize, &Endpoint) -> bool) {
        let mut numbers = vec![0; self.pools.len()];
        self.facts.iter_mut().for_each(|facts| facts.endpoints.clear());
        let facts = &mut self.facts;
        self.endpoints.retain(|endpoint| {
            let Some((number, facts)) = numbers.get_mut(endpoint.pool).zip(facts.get_mut(endpoint.pool)) else {
                return false;
            };
            *number += 1;
            let kept = keep(*number - 1, endpoint);
            if kept {
                facts.endpoints.push(endpoint.id.to_string());
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pointsman_policies::language::Source;

    use super::super::{Portfolio, Secrets, load};

    fn portfolio() -> Portfolio {
        let text = "[pool.a]\nhardware = \"h100\"\nendpoints = [\"http://a-1\", \"http://a-2\"]\n[pool.a.model.m]\n\
                    [pool.b]\nhardware = \"cs3\"\nendpoints = [\"http://b-1\"]\n[pool.b.model.m]\n";
        load(Source::new("portfolio.toml", text), Path::new(""), Secrets::Optional).0.expect("it is right")
    }

    /// Names of endpoints and, behind each, its pool.
    fn names(portfolio: &Portfolio) -> Vec<String> {
        let flat: Vec<&String> = portfolio.facts.iter().flat_map(|facts| &facts.endpoints).collect();
        let ids: Vec<String> = portfolio.endpoints.iter().map(|endpoint| endpoint.id.to_string()).collect();
        assert!(flat.into_iter().eq(&ids), "the order of facts is that of endpoints");
        portfolio.endpoints.iter().map(|endpoint| format!("{} {}", endpoint.id, endpoint.pool)).collect()
    }

    #[test]
    fn an_endpoint_more_stands_behind_those_of_its_pool() {
        let mut portfolio = portfolio();
        portfolio.add_endpoint(0);
        portfolio.add_endpoint(0);
        let expected = ["a/a-1 0", "a/a-2 0", "a/added-3.invalid 0", "a/added-4.invalid 0", "b/b-1 1"];
        assert_eq!(names(&portfolio), expected);
        portfolio.add_endpoint(7);
        assert_eq!(portfolio.endpoints.len(), 5, "there is no such pool");
    }

    #[test]
    fn a_pool_may_be_left_without_endpoints() {
        let mut portfolio = portfolio();
        portfolio.retain_endpoints(|number, endpoint| endpoint.pool == 0 && number == 1);
        assert_eq!(names(&portfolio), ["a/a-2 0"]);
        portfolio.add_endpoint(1);
        assert_eq!(names(&portfolio), ["a/a-2 0", "b/added-1.invalid 1"]);
    }
}
