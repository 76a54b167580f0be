//! The certificates that servers and services use: Secrets and files that are missing or cannot be used,
//! certificates that are out of date or for other hosts (behaviour 2.6, 4.8).
//!
//! A Secret that is used and cannot be is an error of the Secret: its last good version stays in force.
//! Everything else is a warning at the field that names it: the other servers are served.

use std::collections::BTreeSet;

use super::parts::{Parts, Reason, SecretError, Unusable};
use super::{Findings, ValidateOptions};
use crate::config::credential::{self, Named, Source, Sources};
use crate::config::credential_files::{self, CredentialFiles};
use crate::config::gateway::{Gateway, Server};
use crate::config::kube::Secret;
use crate::config::naming::without_namespace;
use crate::config::{Diagnostic, Kind, Object, ResourceSet, Severity, Spec};
use crate::tls::certificate::Certificate;

/// A certificate that expires within this time is told of, s.
const EXPIRES_SOON: i64 = 30 * 24 * 60 * 60;
const DAY: i64 = 24 * 60 * 60;

pub(super) fn validate(
    resources: &ResourceSet,
    options: &ValidateOptions,
    files: &CredentialFiles,
    now: i64,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut judge = Judge {
        parts: Parts::new(resources, files, &options.namespace),
        any_secrets: resources.secrets().next().is_some(),
        namespace: &options.namespace,
        now,
        bad_secrets: Vec::new(),
    };
    for object in resources.gateways() {
        let ours = object.spec.selector.iter();
        if !ours.into_iter().all(|(label, value)| options.labels.get(label) == Some(value)) {
            continue;
        }
        let mut findings = Findings::of(object, diagnostics);
        for (index, server) in object.spec.servers.iter().enumerate() {
            judge.server(&mut findings, server, &format!("spec.servers[{index}]"));
        }
    }
    for object in resources.destination_rules() {
        let applies = object.spec.workload_selector.as_ref().is_none_or(|selector| {
            let mut wanted = selector.match_labels.iter();
            wanted.all(|(label, value)| options.labels.get(label) == Some(value))
        });
        if !applies {
            continue;
        }
        let mut findings = Findings::of(object, diagnostics);
        for (field, tls) in credential_files::client_settings(object) {
            if let Some(sources) = credential::of_client(tls, &object.origin) {
                let effect = "requests to the service get 503";
                judge.sources(&mut findings, &sources, &field, effect);
            }
        }
    }
    judge.tell_bad_secrets(diagnostics);
}

struct Judge<'r> {
    parts: Parts<'r>,
    any_secrets: bool,
    namespace: &'r str,
    now: i64,
    bad_secrets: Vec<(&'r Object<Secret>, SecretError)>,
}

impl<'r> Judge<'r> {
    fn server(&mut self, findings: &mut Findings<'_, Gateway>, server: &Server, field: &str) {
        let Some(tls) = server.tls.as_ref().filter(|_| server.is_tls()) else { return };
        let Some(sources) = credential::of_server(tls, &findings.object.origin) else { return };
        let effect = "TLS handshakes with this server fail";
        let leaves = self.sources(findings, &sources, &format!("{field}.tls"), effect);
        // With two certificates the client's algorithms choose: any may be the one.
        for (leaf, source) in &leaves {
            for (index, host) in server.hosts.iter().enumerate() {
                let host = without_namespace(host);
                if host == "*" || leaf.covers(&host) {
                    continue;
                }
                let message = format!(
                    "the certificate of {source} is not for `{host}`, but for {}",
                    names(leaf)
                );
                let field = format!("{field}.hosts[{index}]");
                let help =
                    "clients that verify it refuse the connection: use one that has the name";
                findings.warn("RNG0313", &field, &message, help);
            }
        }
    }

    /// Judge all parts; returns the certificates of pairs with what they come from. Those of a mesh are
    /// for no hosts.
    fn sources<S: Spec>(
        &mut self,
        findings: &mut Findings<'_, S>,
        sources: &Sources,
        field: &str,
        effect: &str,
    ) -> Vec<(Certificate, String)> {
        let mut leaves = Vec::new();
        let mut told = BTreeSet::new();
        for named in &sources.identities {
            let here = format!("{field}.{}", named.field);
            match self.parts.judge_identity(named) {
                Ok(leaf) => {
                    self.file(findings, &named.source, &here);
                    let Some((leaf, source)) = leaf.zip(self.place(named)) else {
                        continue;
                    };
                    self.validity(findings, &leaf, &source, &here);
                    leaves.push((leaf, source));
                }
                Err(why) => {
                    self.unusable(findings, why, &here, effect);
                    told.insert(&named.source);
                }
            }
        }
        for named in sources.authorities.iter().chain(&sources.revocations) {
            // A Secret that is missing is missing once, and so is the mesh.
            if told.iter().any(|source| self.parts.is_same(source, &named.source)) {
                continue;
            }
            let here = format!("{field}.{}", named.field);
            match self.parts.judge_list(named) {
                Ok(()) => self.file(findings, &named.source, &here),
                Err(why) => self.unusable(findings, why, &here, effect),
            }
        }
        leaves
    }

    /// What a certificate comes from, in words; none: a mesh renews its own.
    fn place(&self, named: &Named) -> Option<String> {
        match &named.source {
            Source::Secret(name) | Source::SecretOrBeside(name) => {
                Some(format!("Secret {}/{name}", self.namespace))
            }
            Source::File(file) => Some(file.paths().next()?.display().to_string()),
            Source::Mesh | Source::Unsupported(_) => None,
        }
    }

    fn unusable<S: Spec>(
        &mut self,
        findings: &mut Findings<'_, S>,
        why: Unusable<'r>,
        field: &str,
        effect: &str,
    ) {
        match &why.0 {
            // Manifests without any Secret say nothing at a Gateway: Secrets are often kept elsewhere,
            // and what is not there when they are served is told by the compiler.
            Reason::NoSecret { .. } if S::KIND == Kind::Gateway && !self.any_secrets => return,
            Reason::File(_, None) | Reason::Mesh(None) => return,
            Reason::Secret(secret, error) if error.refuses() => {
                self.bad_secrets.push((secret, error.clone()));
            }
            _ => {}
        }
        // A Secret may have an earlier version, which is served then; if not, the compiler says so.
        let message = match &why.0 {
            Reason::Secret(..) => why.to_string(),
            _ => format!("{why}: {effect}"),
        };
        findings.warn(why.code(), field, &message, &why.help().unwrap_or_default());
    }

    /// A file whose newest version cannot be used, while an earlier one is.
    fn file<S: Spec>(&self, findings: &mut Findings<'_, S>, source: &Source, field: &str) {
        let Source::File(file) = source else { return };
        let state = self.parts.files.get(file);
        let Some(problem) = state.and_then(|state| state.problem.as_ref()) else { return };
        let message = format!("{problem}: the last good version stays in use");
        findings.warn("RNG0311", field, &message, "");
    }

    /// Once each, at the Secret itself.
    fn tell_bad_secrets(self, diagnostics: &mut Vec<Diagnostic>) {
        let mut told = BTreeSet::new();
        for (secret, error) in self.bad_secrets {
            let problem = error.to_string();
            let problem = problem.trim_start_matches([':', ' ']);
            if !told.insert((secret.meta.name.as_str(), problem.to_owned())) {
                continue;
            }
            let field = error.key().map(|key| secret.spec.field(key)).unwrap_or_default();
            let message = format!("it is used as a credential, but {problem}");
            diagnostics.push(secret.diagnostic(Severity::Error, "RNG0310", &field, &message, None));
        }
    }

    fn validity<S: Spec>(
        &self,
        findings: &mut Findings<'_, S>,
        leaf: &Certificate,
        source: &str,
        field: &str,
    ) {
        let (now, before, after) = (self.now, leaf.not_before, leaf.not_after);
        let days = |seconds: i64| match seconds / DAY {
            0 => "less than a day".to_owned(),
            1 => "1 day".to_owned(),
            days => format!("{days} days"),
        };
        let mut code = "RNG0312";
        let message = if now > after {
            // The one of these that Istio finds too.
            if S::KIND == Kind::Gateway {
                code = "IST0161";
            }
            format!("the certificate of {source} expired {} ago", days(now - after))
        } else if now < before {
            format!("the certificate of {source} is not valid for another {}", days(before - now))
        } else if after - now <= EXPIRES_SOON {
            format!("the certificate of {source} expires in {}", days(after - now))
        } else {
            return;
        };
        let help = "renew the certificate; it is served all the same";
        findings.warn(code, field, &message, help);
    }
}

fn names(leaf: &Certificate) -> String {
    /// More are not shown.
    const SHOWN: usize = 5;
    let addresses = leaf.addresses.iter().map(ToString::to_string);
    let all: Vec<String> = leaf.dns_names.iter().cloned().chain(addresses).collect();
    match all.len() {
        0 => "no name at all (no subjectAltName)".to_owned(),
        more if more > SHOWN => format!("{} and {} more", all[..SHOWN].join(", "), more - SHOWN),
        _ => all.join(", "),
    }
}
