//! The certificates that servers and services use: Secrets and files that are missing or cannot be used,
//! certificates that are out of date or for other hosts (behaviour 2.6, 4.8).
//!
//! A Secret that is used and cannot be is an error of the Secret: its last good version stays in force.
//! Everything else is a warning at the field that names it: the other servers are served.

use std::collections::{BTreeSet, HashMap};

use super::{Findings, ValidateOptions};
use crate::config::credential::{self, CredentialError, Named, Secrets, Source, Sources};
use crate::config::credential_files::{self, CredentialFile, CredentialFiles};
use crate::config::gateway::{Gateway, Server};
use crate::config::kube::Secret;
use crate::config::naming::without_namespace;
use crate::config::{Diagnostic, Kind, Object, ResourceSet, Severity, Spec};
use crate::tls::certificate::{self, Certificate};
use crate::tls::pem::{self, IdentityError};

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
        resources,
        secrets: Secrets::of(resources, &options.namespace),
        namespace: &options.namespace,
        files,
        now,
        identities: HashMap::new(),
        authorities: HashMap::new(),
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
                judge.parts(&mut findings, &sources, &field, effect);
            }
        }
    }
    judge.tell_bad_secrets(diagnostics);
}

/// What is wrong with a Secret in a role.
#[derive(Clone)]
struct SecretProblem {
    /// The value that it is about.
    key: Option<&'static str>,
    message: String,
    /// Is the Secret refused for it? One without authorities may still be good as a pair.
    refuses: bool,
}

impl From<CredentialError> for SecretProblem {
    fn from(error: CredentialError) -> SecretProblem {
        SecretProblem {
            key: error.key(),
            message: error.to_string(),
            refuses: error != CredentialError::NoAuthorities,
        }
    }
}

struct Judge<'r> {
    resources: &'r ResourceSet,
    secrets: Secrets<'r>,
    namespace: &'r str,
    files: &'r CredentialFiles,
    now: i64,
    /// Every Secret is looked at once in each role: reading keys takes long.
    identities: HashMap<&'r str, Result<Option<Certificate>, SecretProblem>>,
    authorities: HashMap<&'r str, Result<(), SecretProblem>>,
    bad_secrets: Vec<(&'r Object<Secret>, SecretProblem)>,
}

impl<'r> Judge<'r> {
    fn server(&mut self, findings: &mut Findings<'_, Gateway>, server: &Server, field: &str) {
        let Some(tls) = server.tls.as_ref().filter(|_| server.is_tls()) else { return };
        let Some(sources) = credential::of_server(tls, &findings.object.origin) else { return };
        let effect = "TLS handshakes with this server fail";
        let leaves = self.parts(findings, &sources, &format!("{field}.tls"), effect);
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
    fn parts<S: Spec>(
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
            if let Some(leaf) = self.identity(findings, named, &here, effect) {
                self.validity(findings, &leaf.0, &leaf.1, &here);
                leaves.push(leaf);
            } else {
                told.insert(&named.source);
            }
        }
        for named in sources.authorities.iter().chain(&sources.revocations) {
            // A Secret that is missing is missing once, and so is the mesh.
            let same = told.iter().any(|source| match (source, &named.source) {
                (Source::Secret(one), Source::SecretOrBeside(other)) => {
                    one == other && self.secrets.with_authorities(other).is_none()
                }
                (Source::Unsupported(one), Source::Unsupported(other)) => one == other,
                (one, other) => **one == Source::Mesh && *other == Source::Mesh,
            });
            if !same {
                self.list(findings, named, &format!("{field}.{}", named.field), effect);
            }
        }
        leaves
    }

    fn identity<S: Spec>(
        &mut self,
        findings: &mut Findings<'_, S>,
        named: &Named,
        field: &str,
        effect: &str,
    ) -> Option<(Certificate, String)> {
        match &named.source {
            Source::Secret(name) | Source::SecretOrBeside(name) => {
                let Some(secret) = self.secrets.get(name) else {
                    self.missing(findings, name, field, effect);
                    return None;
                };
                let key = secret.meta.name.as_str();
                let judged = self.identities.entry(key).or_insert_with(|| pair(&secret.spec));
                match judged.clone() {
                    Ok(leaf) => Some((leaf?, format!("Secret {}/{name}", self.namespace))),
                    Err(problem) => {
                        self.bad(findings, secret, problem, field);
                        None
                    }
                }
            }
            Source::File(file) => {
                self.file(findings, file, field, effect);
                let identity = self.files.identity(file)?;
                Some((
                    certificate::leaf(&identity.chain.0).ok()?,
                    file.paths().next()?.display().to_string(),
                ))
            }
            Source::Mesh => {
                self.mesh(findings, field, effect);
                None
            }
            Source::Unsupported(name) => {
                unsupported(findings, name, field, effect);
                None
            }
        }
    }

    fn list<S: Spec>(
        &mut self,
        findings: &mut Findings<'_, S>,
        named: &Named,
        field: &str,
        effect: &str,
    ) {
        let (name, secret) = match &named.source {
            Source::File(file) => return self.file(findings, file, field, effect),
            Source::Mesh => return self.mesh(findings, field, effect),
            Source::Unsupported(name) => return unsupported(findings, name, field, effect),
            Source::Secret(name) => (name, self.secrets.get(name)),
            Source::SecretOrBeside(name) => (name, self.secrets.with_authorities(name)),
        };
        let Some(secret) = secret else { return self.missing(findings, name, field, effect) };
        let key = secret.meta.name.as_str();
        let judged = self.authorities.entry(key).or_insert_with(|| authorities(&secret.spec));
        if let Err(problem) = judged.clone() {
            self.bad(findings, secret, problem, field);
        }
    }

    fn missing<S: Spec>(
        &self,
        findings: &mut Findings<'_, S>,
        name: &str,
        field: &str,
        effect: &str,
    ) {
        // Manifests without any Secret say nothing at a Gateway: Secrets are often kept elsewhere, and
        // what is not there when they are served is told by the compiler.
        if S::KIND == Kind::Gateway && self.resources.secrets().next().is_none() {
            return;
        }
        let namespace = self.namespace;
        let elsewhere = self.resources.secrets().find(|object| object.meta.name == name);
        let help = match elsewhere.map(|object| object.meta.namespace.as_str()) {
            Some(other) => format!("move the Secret from {other} to {namespace}"),
            None => format!("add a Secret `{name}` to namespace {namespace}"),
        };
        let message = format!("there is no Secret {namespace}/{name} in these manifests: {effect}");
        findings.warn("IST0101", field, &message, &help);
    }

    fn bad<S: Spec>(
        &mut self,
        findings: &mut Findings<'_, S>,
        secret: &'r Object<Secret>,
        problem: SecretProblem,
        field: &str,
    ) {
        let colon = if problem.message.starts_with("its ") { ":" } else { "" };
        let (namespace, name) = (self.namespace, &secret.meta.name);
        let message = format!("Secret {namespace}/{name}{colon} {}", problem.message);
        let help = match problem.refuses {
            true => "",
            false => "add `ca.crt` to it, or a Secret with the CA whose name ends in `-cacert`",
        };
        findings.warn("IST0161", field, &message, help);
        if problem.refuses {
            self.bad_secrets.push((secret, problem));
        }
    }

    /// Once each, at the Secret itself.
    fn tell_bad_secrets(self, diagnostics: &mut Vec<Diagnostic>) {
        let mut told = BTreeSet::new();
        for (secret, problem) in self.bad_secrets {
            if !told.insert((secret.meta.name.as_str(), problem.message.clone())) {
                continue;
            }
            let field = problem.key.map(|key| secret.spec.field(key)).unwrap_or_default();
            let message = format!("it is used as a credential, but {}", problem.message);
            diagnostics.push(secret.diagnostic(Severity::Error, "RNG0310", &field, &message, None));
        }
    }

    /// Files that were looked at and cannot be used.
    fn file<S: Spec>(
        &self,
        findings: &mut Findings<'_, S>,
        file: &CredentialFile,
        field: &str,
        effect: &str,
    ) {
        let Some(state) = self.files.get(file) else { return };
        let Some(problem) = &state.problem else { return };
        let effect = match state.content {
            Some(_) => "the last good version stays in use",
            None => effect,
        };
        findings.warn("RNG0311", field, &format!("{problem}: {effect}"), "");
    }

    fn mesh<S: Spec>(&self, findings: &mut Findings<'_, S>, field: &str, effect: &str) {
        if self.files.mesh().is_some() {
            return;
        }
        let mut problems: Vec<&str> = Vec::new();
        for file in self.files.mesh_folders().files().flatten() {
            let Some(state) = self.files.get(&file) else { continue };
            problems.extend(state.problem.as_deref());
        }
        if let Some(first) = problems.first() {
            let message = format!("no certificate of a mesh is here ({first}): {effect}");
            let help = "mount the workload's certificate at /etc/certs, name its folder by \
                        --mesh-certificates, or use another mode";
            findings.warn("RNG0311", field, &message, help);
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

fn unsupported<S: Spec>(findings: &mut Findings<'_, S>, name: &str, field: &str, effect: &str) {
    let message = format!("not honoured yet: `{name}` is not read: {effect}");
    let help = "name a Secret of the gateway's namespace, without a scheme or a namespace";
    findings.warn("RNG0100", field, &message, help);
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

/// Judge a Secret as certificate and key. A certificate that rustls takes and nobody can read for its
/// names is good.
fn pair(secret: &Secret) -> Result<Option<Certificate>, SecretProblem> {
    let found = credential::identity(secret)?;
    let identity = &found.identity;
    pem::check_identity(&identity.chain.0, &identity.key.0).map_err(|error| {
        let (key, message) = match error {
            IdentityError::Chain(error) => {
                (found.certificate_key, format!("its `{}` {error}", found.certificate_key))
            }
            IdentityError::Key(error) => {
                (found.private_key_key, format!("its `{}` {error}", found.private_key_key))
            }
            IdentityError::Mismatch => (
                found.private_key_key,
                format!(
                    "its `{}` does not belong to its `{}`",
                    found.private_key_key, found.certificate_key
                ),
            ),
        };
        SecretProblem { key: Some(key), message, refuses: true }
    })?;
    Ok(certificate::leaf(&identity.chain.0).ok())
}

/// Judge a Secret as authorities.
fn authorities(secret: &Secret) -> Result<(), SecretProblem> {
    let found = credential::authorities(secret)?;
    let problem = |key: &'static str, error: pem::PemError| SecretProblem {
        key: Some(key),
        message: format!("its `{key}` {error}"),
        refuses: true,
    };
    pem::check_authorities(&found.authorities.0)
        .map_err(|error| problem(found.authorities_key, error))?;
    if let Some(lists) = &found.revocations {
        pem::check_revocations(&lists.0).map_err(|error| problem(found.revocations_key, error))?;
    }
    Ok(())
}
