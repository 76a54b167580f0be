//! How the endpoints of a cluster are divided by where they are, seen from where this gateway is
//! (behaviour 4.4).

use std::collections::{BTreeMap, BTreeSet};

use super::registry::EndpointRecord;
use crate::config::destination_rule::LocalityLbSetting;
use crate::snapshot::Grouping;

/// Labels that stand for the parts of a locality in `failoverPriority`.
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";

/// Where something runs: `region/zone/subzone`, the later parts possibly empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Subzone.
    pub subzone: String,
}

impl Locality {
    /// Read `region/zone/subzone`.
    pub fn parse(text: &str) -> Locality {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Locality { region: next(), zone: next(), subzone: next() }
    }

    /// How far `other` is: 0 the same, 1 another subzone, 2 another zone, 3 another region.
    fn distance(&self, other: &Locality) -> u32 {
        // Manifests of Kubernetes tell the zone alone: the same zone is in the same region.
        let known = !other.region.is_empty() || other.zone.is_empty();
        let region = if known { self.region == other.region } else { self.zone == other.zone };
        match (region, self.zone == other.zone, self.subzone == other.subzone) {
            (false, ..) => 3,
            (_, false, _) => 2,
            (_, _, false) => 1,
            _ => 0,
        }
    }

    /// Is it one of `rule`: `region/zone/subzone` with `*` or nothing for any?
    fn is_of(&self, rule: &str) -> bool {
        let rule = Locality::parse(rule);
        let any = |rule: &str, own: &str| rule.is_empty() || rule == "*" || rule == own;
        (rule.region == "*" || rule.region == self.region)
            && any(&rule.zone, &self.zone)
            && any(&rule.subzone, &self.subzone)
    }
}

/// Where and what this gateway is.
#[derive(Clone, Copy, Debug)]
pub struct Own<'g> {
    /// `--locality`.
    pub locality: Option<&'g Locality>,
    /// `--labels`.
    pub labels: &'g BTreeMap<String, String>,
}

/// The groups of `endpoints` and what they mean. `fails_over`: there is an outlier detection, without
/// which nothing is ever found to have failed.
pub fn group(
    own: Own<'_>,
    settings: Option<&LocalityLbSetting>,
    fails_over: bool,
    endpoints: &[&EndpointRecord],
) -> (Grouping, Vec<u16>) {
    let one = || (Grouping::One, vec![0; endpoints.len()]);
    if settings.is_some_and(|settings| settings.enabled == Some(false)) {
        return one();
    }
    let localities: Vec<Locality> = endpoints
        .iter()
        .map(|endpoint| Locality::parse(endpoint.locality.as_deref().unwrap_or_default()))
        .collect();
    if let Some(settings) = settings.filter(|settings| !settings.distribute.is_empty()) {
        let Some(locality) = own.locality else { return one() };
        let Some(rule) = settings.distribute.iter().find(|rule| locality.is_of(&rule.from)) else {
            return one();
        };
        // The most exact ones first: each endpoint is of one.
        let mut to: Vec<(&String, &u32)> = rule.to.iter().collect();
        let exactness = |text: &str| text.split('/').filter(|part| *part != "*").count();
        to.sort_by_key(|(text, _)| std::cmp::Reverse(exactness(text)));
        let groups = localities
            .iter()
            .map(|locality| {
                let found = to.iter().position(|(rule, _)| locality.is_of(rule));
                found.unwrap_or(to.len()) as u16
            })
            .collect();
        return (Grouping::Shares(to.iter().map(|(_, share)| **share).collect()), groups);
    }
    if !fails_over {
        return one();
    }
    let failover = settings.map_or(&[][..], |settings| &settings.failover);
    let labels = settings.map_or(&[][..], |settings| &settings.failover_priority);
    let by_place = |locality: &Locality| {
        let Some(own) = own.locality else { return 0 };
        let distance = own.distance(locality);
        let rule = failover.iter().find(|rule| rule.from == own.region);
        match rule {
            Some(rule) if distance == 3 && rule.to != locality.region => 4,
            _ => distance,
        }
    };
    let distances: Vec<u32> = endpoints
        .iter()
        .zip(&localities)
        .map(|(endpoint, locality)| {
            if labels.is_empty() {
                return by_place(locality);
            }
            let by_labels = by_labels(own, labels, endpoint, locality);
            if failover.is_empty() { by_labels } else { by_labels * 5 + by_place(locality) }
        })
        .collect();
    // Priorities without gaps.
    let levels: BTreeSet<u32> = distances.iter().copied().collect();
    if levels.len() < 2 {
        return one();
    }
    let level = |distance: &u32| levels.range(..*distance).count() as u16;
    (Grouping::Priorities, distances.iter().map(level).collect())
}

/// How many of `labels` do not lead from the gateway to the endpoint: all behind the first that differs.
fn by_labels(
    own: Own<'_>,
    labels: &[String],
    endpoint: &EndpointRecord,
    locality: &Locality,
) -> u32 {
    fn of<'l>(
        labels: &'l BTreeMap<String, String>,
        locality: Option<&'l Locality>,
        name: &str,
    ) -> Option<&'l str> {
        let part = |part: fn(&Locality) -> &String| locality.map(|place| part(place).as_str());
        match name {
            REGION => part(|place| &place.region),
            ZONE => part(|place| &place.zone),
            SUBZONE => part(|place| &place.subzone),
            _ => labels.get(name).map(String::as_str),
        }
    }
    let same = |label: &&String| {
        let (name, wanted) = match label.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (label.as_str(), of(own.labels, own.locality, label)),
        };
        wanted.unwrap_or_default() == of(&endpoint.labels, Some(locality), name).unwrap_or_default()
    };
    (labels.len() - labels.iter().take_while(same).count()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::destination_rule::{LocalityDistribute, LocalityFailover};

    fn endpoint(locality: &str, labels: &[(&str, &str)]) -> EndpointRecord {
        EndpointRecord {
            address: std::net::SocketAddr::from(([10, 0, 0, 1], 80)),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            weight: 1,
            ready: true,
            locality: Some(locality.to_owned()),
            workload: None,
            namespace: String::new(),
        }
    }

    fn grouped(
        settings: &LocalityLbSetting,
        fails_over: bool,
        localities: &[&str],
    ) -> (Grouping, Vec<u16>) {
        let endpoints: Vec<_> = localities.iter().map(|place| endpoint(place, &[])).collect();
        let locality = Locality::parse("eu/west/a");
        let own = Own { locality: Some(&locality), labels: &BTreeMap::new() };
        group(own, Some(settings), fails_over, &endpoints.iter().collect::<Vec<_>>())
    }

    const PLACES: [&str; 5] = ["eu/west/a", "us/west/a", "eu/west/b", "eu/east/a", "eu/west/a"];

    #[test]
    fn the_near_come_first_when_failures_are_seen() {
        let any = LocalityLbSetting::default();
        assert_eq!(grouped(&any, true, &PLACES), (Grouping::Priorities, vec![0, 3, 1, 2, 0]));
        assert_eq!(grouped(&any, false, &PLACES), (Grouping::One, vec![0; 5]));
        let off = LocalityLbSetting { enabled: Some(false), ..any.clone() };
        assert_eq!(grouped(&off, true, &PLACES).0, Grouping::One);
        assert_eq!(grouped(&any, true, &["us", "asia"]).0, Grouping::One, "all are as far");
        assert_eq!(grouped(&any, true, &["us", "/west"]).1, [1, 0], "a zone alone");
    }

    #[test]
    fn the_region_that_takes_over_comes_before_others() {
        let rule = LocalityFailover { from: "eu".to_owned(), to: "us".to_owned() };
        let settings = LocalityLbSetting { failover: vec![rule], ..Default::default() };
        assert_eq!(grouped(&settings, true, &["eu/west/a", "asia", "us/x/y"]).1, [0, 2, 1]);
    }

    #[test]
    fn labels_lead_as_far_as_they_agree() {
        let own = [("app", "edge"), ("rack", "7")];
        let own: BTreeMap<String, String> =
            own.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let locality = Locality::parse("eu/west");
        let own = Own { locality: Some(&locality), labels: &own };
        let priority = |labels: &[&str]| LocalityLbSetting {
            failover_priority: labels.iter().map(|label| (*label).to_owned()).collect(),
            ..Default::default()
        };
        let endpoints = [
            endpoint("eu/west", &[("rack", "7")]),
            endpoint("eu/west", &[("rack", "8")]),
            endpoint("us/west", &[("rack", "7")]),
        ];
        let endpoints: Vec<_> = endpoints.iter().collect();
        let groups = |labels: &[&str]| group(own, Some(&priority(labels)), true, &endpoints).1;
        assert_eq!(groups(&[REGION, "rack"]), [0, 1, 2]);
        assert_eq!(groups(&["rack", REGION]), [0, 2, 1]);
        assert_eq!(groups(&["rack=8"]), [1, 0, 1]);
        assert_eq!(groups(&[ZONE]), [0, 0, 0]);
    }

    #[test]
    fn shares_are_of_the_most_exact_rule() {
        let rule = |from: &str, to: &[(&str, u32)]| LocalityDistribute {
            from: from.to_owned(),
            to: to.iter().map(|(place, share)| ((*place).to_owned(), *share)).collect(),
        };
        let settings = LocalityLbSetting {
            distribute: vec![
                rule("us/*", &[("us/*", 100)]),
                rule("eu/west/*", &[("eu/*", 20), ("eu/west/a", 80)]),
            ],
            ..Default::default()
        };
        let shares = Grouping::Shares(Box::new([80, 20]));
        assert_eq!(grouped(&settings, false, &PLACES), (shares, vec![0, 2, 1, 1, 0]));
        let elsewhere = LocalityLbSetting {
            distribute: vec![rule("us/*", &[("us/*", 100)])],
            ..Default::default()
        };
        assert_eq!(grouped(&elsewhere, true, &PLACES).0, Grouping::One);
    }
}
