//! What the resources mean: every finding at once, each with its place. An error belongs to one
//! object, which is refused alone; warnings change nothing.
//!
//! One file per kind, then `references` (names that point nowhere), and `unsupported`: every field
//! that is read but not honoured yet says so. The rules are Istio's (behaviour 11); codes are those
//! of its analyzer where it has one.

mod destination_rule;
mod gateway;
mod names;
mod references;
mod route_policy;
mod service_entry;
mod shadowed;
#[cfg(test)]
mod tests;
mod unsupported;
mod virtual_service;

use std::collections::BTreeMap;

use crate::config::{Diagnostic, Object, ResourceSet, Severity};

/// What the judge must know besides the resources.
#[derive(Clone, Debug)]
pub struct ValidateOptions {
    /// Labels of this gateway.
    pub labels: BTreeMap<String, String>,
    /// Namespace of this gateway.
    pub namespace: String,
    /// Suffix of service names.
    pub cluster_domain: String,
}

impl Default for ValidateOptions {
    fn default() -> Self {
        ValidateOptions {
            labels: BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]),
            namespace: "istio-system".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        }
    }
}

/// Judge all resources.
pub fn validate(resources: &ResourceSet, options: &ValidateOptions) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for object in resources.gateways() {
        gateway::validate(&mut Findings::of(object, &mut diagnostics));
    }
    for object in resources.virtual_services() {
        virtual_service::validate(&mut Findings::of(object, &mut diagnostics));
    }
    for object in resources.destination_rules() {
        destination_rule::validate(&mut Findings::of(object, &mut diagnostics));
    }
    for object in resources.service_entries() {
        service_entry::validate(&mut Findings::of(object, &mut diagnostics));
    }
    for object in resources.workload_entries() {
        service_entry::validate_workload(&mut Findings::of(object, &mut diagnostics));
    }
    references::validate(resources, options, &mut diagnostics);
    unsupported::validate(resources, options, &mut diagnostics);
    diagnostics
}

/// Collects the findings about one object.
struct Findings<'o, S> {
    object: &'o Object<S>,
    diagnostics: &'o mut Vec<Diagnostic>,
}

impl<'o, S: crate::config::Spec> Findings<'o, S> {
    fn of(object: &'o Object<S>, diagnostics: &'o mut Vec<Diagnostic>) -> Self {
        Findings { object, diagnostics }
    }

    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        field: &str,
        message: &str,
        help: &str,
    ) {
        let help = (!help.is_empty()).then_some(help);
        self.diagnostics.push(self.object.diagnostic(severity, code, field, message, help));
    }

    /// The object breaks a rule of the schema (IST0106).
    fn error(&mut self, field: &str, message: &str, help: &str) {
        self.add(Severity::Error, "IST0106", field, message, help);
    }

    fn warn(&mut self, code: &'static str, field: &str, message: &str, help: &str) {
        self.add(Severity::Warning, code, field, message, help);
    }
}
