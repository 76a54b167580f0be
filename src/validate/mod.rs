//! What the resources mean: every finding at once, each with its place. An error belongs to one
//! object, which is refused alone; warnings change nothing.
//!
//! One file per kind, or per part of a large one; then what needs more than one object to see:
//! `references` (names that point nowhere), `credentials` (what [`parts`] finds of them, which the compiler
//! asks too), `gateway_analysis` and `service_analysis`; and
//! `unsupported`: every field that is read but not honoured yet says so. The rules are Istio's
//! (behaviour 11); codes are those of its analyzer where it has one.

mod credentials;
mod destination_rule;
mod gateway;
mod gateway_analysis;
mod http_route;
mod l4_route;
mod load_balancer;
mod metadata;
mod names;
mod objective;
pub mod parts;
mod references;
mod route_policy;
mod server_tls;
mod service_analysis;
mod service_entry;
mod shadowed;
#[cfg(test)]
mod tests;
mod unsupported;
mod virtual_service;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::credential_files::CredentialFiles;
use crate::config::{Diagnostic, Object, ResourceSet, Severity};

/// Protocols of ports that Istio knows, of which a gateway serves some.
const PROTOCOLS: [&str; 12] = [
    "HTTP",
    "HTTPS",
    "HTTP2",
    "GRPC",
    "GRPC-WEB",
    "HTTP_PROXY",
    "TCP",
    "TLS",
    "UDP",
    "MONGO",
    "MYSQL",
    "REDIS",
];

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

/// Judge all resources; of the files that they name nothing is known.
pub fn validate(resources: &ResourceSet, options: &ValidateOptions) -> Vec<Diagnostic> {
    validate_with_files(resources, options, &CredentialFiles::default())
}

/// Judge all resources and the files that they name.
pub fn validate_with_files(
    resources: &ResourceSet,
    options: &ValidateOptions,
    files: &CredentialFiles,
) -> Vec<Diagnostic> {
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
    for object in resources.service_level_objectives() {
        objective::validate(&mut Findings::of(object, &mut diagnostics));
    }
    references::validate(resources, options, &mut diagnostics);
    gateway_analysis::validate(resources, options, &mut diagnostics);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    credentials::validate(resources, options, files, now, &mut diagnostics);
    service_analysis::validate(resources, options, &mut diagnostics);
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

    /// With an empty `help` the mend of the code is what is shown.
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

    fn info(&mut self, code: &'static str, field: &str, message: &str, help: &str) {
        self.add(Severity::Info, code, field, message, help);
    }

    fn warn(&mut self, code: &'static str, field: &str, message: &str, help: &str) {
        self.add(Severity::Warning, code, field, message, help);
    }
}
