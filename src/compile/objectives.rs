//! ServiceLevelObjectives → what the stats thread measures by. What they name is looked up among what
//! requests are counted under.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::objective::ServiceLevelObjective;
use crate::config::{Diagnostic, Object, ResourceSet, Severity};
use crate::ids::HistogramSlot;
use crate::limits::{OBJECTIVE_WINDOW_MAX, OBJECTIVES_MAX};
use crate::metrics::labels::{HistogramKey, LabelTable};
use crate::metrics::slo::{Measure, Objective, Subject};

/// What requests are counted under in a snapshot.
#[derive(Debug, Default)]
pub struct CountedNames {
    hosts: BTreeSet<String>,
    /// VirtualService and route.
    routes: BTreeSet<(String, String)>,
    /// Those of them without a histogram of their own.
    shared: BTreeSet<(String, String)>,
    /// Hosts that are counted under the name of another one.
    aliases: BTreeMap<String, String>,
}

impl CountedNames {
    /// Requests are counted under this key.
    pub fn add(&mut self, key: &HistogramKey, slot: HistogramSlot) {
        let route = (key.virtual_service.clone(), key.route.clone());
        if slot == LabelTable::OTHER_ROUTES {
            self.shared.insert(route);
            return;
        }
        self.hosts.insert(key.virtual_host.clone());
        self.routes.insert(route);
    }

    /// Requests to `host` are counted under `counted_as`.
    pub fn alias(&mut self, host: &str, counted_as: &str) {
        if host != counted_as {
            self.aliases.entry(host.to_owned()).or_insert_with(|| counted_as.to_owned());
        }
    }

    /// What stops a subject from being measured, and what to do.
    fn problem(&self, subject: &Subject) -> Option<(String, String)> {
        match subject {
            Subject::Host(host) if self.hosts.contains(host) => None,
            Subject::Host(host) => Some(match self.aliases.get(host) {
                Some(counted_as) => (
                    format!("requests to `{host}` are counted with those to `{counted_as}`"),
                    format!(
                        "write `host: {counted_as}`, or give `{host}` a VirtualService of its own"
                    ),
                ),
                None => (
                    format!("no request is counted for a host `{host}`"),
                    list("hosts", self.hosts.iter().cloned()),
                ),
            }),
            Subject::Route { .. } => {
                let fits = |(virtual_service, route): &&(String, String)| {
                    subject.is_route(virtual_service, route)
                };
                if self.routes.iter().any(|route| fits(&route)) {
                    return None;
                }
                Some(match self.shared.iter().find(fits) {
                    Some(_) => (
                        "the route has no counts of its own: it is beyond the first 256".to_owned(),
                        "write the objective for its host".to_owned(),
                    ),
                    None => (
                        format!("no route `{subject}`"),
                        list("routes", self.routes.iter().map(|(of, name)| format!("{of}#{name}"))),
                    ),
                })
            }
        }
    }
}

/// The first few names.
fn list(what: &str, names: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> = names.take(SHOWN + 1).collect();
    if names.len() > SHOWN {
        names[SHOWN] = "…".to_owned();
    }
    match names.is_empty() {
        true => format!("there are no {what}"),
        false => format!("{what}: {}", names.join(", ")),
    }
}

/// The objectives, in the order of their names.
pub fn compile(
    resources: &ResourceSet,
    counted: &CountedNames,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Objective> {
    let mut objectives = Vec::new();
    for object in resources.service_level_objectives() {
        let Some(objective) = objective(object) else { continue };
        let field = if objective.host().is_some() { "spec.host" } else { "spec.route" };
        let mut warn = |message: &str, help: &str| {
            let found = object.diagnostic(Severity::Warning, "RNG0402", field, message, Some(help));
            diagnostics.push(found);
        };
        if objectives.len() >= OBJECTIVES_MAX {
            let message = format!("left out: there are {OBJECTIVES_MAX} objectives already");
            warn(&message, "objectives for hosts instead of routes need fewer objects");
            continue;
        }
        if let Some((message, help)) = counted.problem(&objective.subject) {
            warn(&message, &help);
        }
        objectives.push(objective);
    }
    objectives.sort_by(|one, other| one.name.cmp(&other.name));
    objectives
}

/// None when validation refused it.
fn objective(object: &Object<ServiceLevelObjective>) -> Option<Objective> {
    let spec = &object.spec;
    let subject = match (&spec.host, &spec.route) {
        (Some(host), None) => Subject::Host(host.to_ascii_lowercase()),
        (None, Some(route)) => Subject::route(route),
        _ => return None,
    };
    let (measure, percent) = match (spec.availability, &spec.latency) {
        (Some(percent), None) => (Measure::Availability, percent),
        (None, Some(latency)) => {
            let threshold = latency.threshold?.0;
            let threshold_us = u64::try_from(threshold.as_micros()).ok()?;
            (Measure::Latency { threshold_us }, latency.target?)
        }
        _ => return None,
    };
    let name = match object.meta.namespace.as_str() {
        "default" => object.meta.name.clone(),
        namespace => format!("{namespace}/{}", object.meta.name),
    };
    let window: Duration = spec.window.map_or(OBJECTIVE_WINDOW_MAX, |window| window.0);
    Some(Objective { name, subject, measure, percent, window })
}
