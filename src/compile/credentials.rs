//! TLS settings of manifests, Secrets and files → the plain settings that both sides of TLS are made of
//! (behaviour 2.5, 2.6, 4.8).
//!
//! What is missing is an error here: a server then fails its handshakes, a service gets no requests. Of
//! what is there validation has judged already whether it is any good.

use crate::config::credential::{self, Named, SecretAuthorities, Secrets, Source, Sources};
use crate::config::credential_files::CredentialFiles;
use crate::config::destination_rule::{ClientTlsMode, ClientTlsSettings, DestinationRule};
use crate::config::gateway::{Gateway, Server, TlsMode, TlsProtocol};
use crate::config::{Diagnostic, Object, ResourceSet, Severity};
use crate::tls::settings::{
    Bytes, ClientCertificates, ClientSettings, Identity, ServerSettings, TlsVersion, Trust,
};

/// Where certificates are found.
pub struct Credentials<'r> {
    secrets: Secrets<'r>,
    files: &'r CredentialFiles,
    namespace: &'r str,
}

/// What settings of TLS to a service depend on besides themselves.
pub struct ClientSide<'r> {
    /// Istio's name of the cluster.
    pub cluster: &'r str,
    /// `subjectAltNames` of the ServiceEntry.
    pub service_names: &'r [String],
    /// The rule that they stand in.
    pub rule: &'r Object<DestinationRule>,
}

/// What a server without a certificate comes to (behaviour 2.6.5).
pub const HANDSHAKES_FAIL: &str = "TLS handshakes with this server fail";

/// Why a part is not there: code, words.
type Missing = (&'static str, String);

impl<'r> Credentials<'r> {
    /// The Secrets of the gateway's namespace, and the files that were read.
    pub fn new(
        resources: &'r ResourceSet,
        files: &'r CredentialFiles,
        namespace: &'r str,
    ) -> Credentials<'r> {
        Credentials { secrets: Secrets::of(resources, namespace), files, namespace }
    }

    fn missing(&self, name: &str) -> Missing {
        ("IST0101", format!("there is no Secret {}/{name}", self.namespace))
    }

    fn identity(&self, named: &Named) -> Result<Identity, Missing> {
        match &named.source {
            Source::Secret(name) | Source::SecretOrBeside(name) => {
                let secret = self.secrets.get(name).ok_or_else(|| self.missing(name))?;
                let found = credential::identity(&secret.spec)
                    .map_err(|error| ("IST0161", format!("{} {error}", secret.key())))?;
                Ok(found.identity)
            }
            Source::File(file) => {
                self.files.identity(file).cloned().ok_or_else(|| unreadable(&file.to_string()))
            }
            Source::Mesh => self.mesh().map(|(identity, _)| identity.clone()),
            Source::Unsupported(name) => Err(unsupported(name)),
        }
    }

    fn mesh(&self) -> Result<(&Identity, &Bytes), Missing> {
        self.files.mesh().ok_or_else(|| ("RNG0311", "no certificate of a mesh is here".to_owned()))
    }

    /// Authorities or revocation lists; those of a Secret come with its own revocation lists.
    fn list(&self, named: &Named) -> Result<(Bytes, Option<Bytes>), Missing> {
        let (name, secret) = match &named.source {
            Source::Secret(name) => (name, self.secrets.get(name)),
            Source::SecretOrBeside(name) => (name, self.secrets.with_authorities(name)),
            Source::File(file) => {
                let list = self.files.list(file).cloned();
                return Ok((list.ok_or_else(|| unreadable(&file.to_string()))?, None));
            }
            Source::Mesh => return self.mesh().map(|(_, authorities)| (authorities.clone(), None)),
            Source::Unsupported(name) => return Err(unsupported(name)),
        };
        let secret = secret.ok_or_else(|| self.missing(name))?;
        let SecretAuthorities { authorities, revocations, .. } =
            credential::authorities(&secret.spec)
                .map_err(|error| ("IST0161", format!("{} {error}", secret.key())))?;
        Ok((authorities, revocations))
    }

    /// All identities, and authorities with revocation lists; else the field that has none, and why.
    fn parts(&self, sources: &Sources) -> Result<(Vec<Identity>, Trust), (String, Missing)> {
        let at = |named: &Named, missing: Missing| (named.field.clone(), missing);
        let mut identities = Vec::new();
        for named in &sources.identities {
            identities.push(self.identity(named).map_err(|missing| at(named, missing))?);
        }
        let mut trust = Trust::default();
        if let Some(named) = &sources.authorities {
            let (authorities, revocations) =
                self.list(named).map_err(|missing| at(named, missing))?;
            trust.authorities = Some(authorities);
            trust.revocations = revocations;
        }
        if let Some(named) = &sources.revocations {
            trust.revocations = Some(self.list(named).map_err(|missing| at(named, missing))?.0);
        }
        Ok((identities, trust))
    }
}

fn unreadable(file: &str) -> Missing {
    ("RNG0311", format!("{file} cannot be used"))
}

fn unsupported(name: &str) -> Missing {
    ("RNG0100", format!("not honoured yet: `{name}` is not read"))
}

/// Settings of a server that ends TLS. The error is the warning why there are none, and that they come to
/// `effect`; where validation saw it, it has told the same with the same code and field.
pub fn server_settings(
    server: &Server,
    gateway: &Object<Gateway>,
    credentials: &Credentials<'_>,
    effect: &str,
) -> Result<ServerSettings, Box<Diagnostic>> {
    let index = gateway.spec.servers.iter().position(|own| std::ptr::eq(own, server));
    let field = format!("spec.servers[{}]", index.unwrap_or_default());
    let error = |field: &str, (code, reason): Missing| {
        let message = format!("{reason}: {effect}");
        Box::new(gateway.diagnostic(Severity::Warning, code, field, &message, None))
    };
    let sources = server
        .tls
        .as_ref()
        .and_then(|tls| Some((tls, credential::of_server(tls, &gateway.origin)?)));
    let Some((tls, sources)) = sources else {
        let reason = ("IST0106", "TLS does not end at this server".to_owned());
        return Err(error(&field, reason));
    };
    let here = format!("{field}.tls");
    let (identities, mut trust) = credentials
        .parts(&sources)
        .map_err(|(part, missing)| error(&format!("{here}.{part}"), missing))?;
    if identities.is_empty() {
        let reason = ("IST0106", "this mode needs a certificate and its key".to_owned());
        return Err(error(&here, reason));
    }
    let client_certificates = match tls.mode {
        Some(TlsMode::Mutual | TlsMode::IstioMutual) => ClientCertificates::Required,
        Some(TlsMode::OptionalMutual) => ClientCertificates::Optional,
        _ => ClientCertificates::NotAsked,
    };
    if client_certificates != ClientCertificates::NotAsked {
        trust.subject_alt_names = names(&tls.subject_alt_names);
        trust.skip_verification = tls.insecure_skip_verify == Some(true);
        // Istio reads them with credentials only; pins that are ignored would open what is locked.
        trust.key_pins = names(&tls.verify_certificate_spki);
        trust.certificate_pins = names(&tls.verify_certificate_hash);
        if trust.authorities.is_none() && !trust.skip_verification {
            let reason = ("IST0106", "this mode needs the CA of the clients".to_owned());
            return Err(error(&here, reason));
        }
    }
    let version_max = match tls.max_protocol_version {
        None | Some(TlsProtocol::Auto) => None,
        Some(TlsProtocol::V1_3) => Some(TlsVersion::V1_3),
        Some(TlsProtocol::V1_2) => Some(TlsVersion::V1_2),
        Some(TlsProtocol::V1_0 | TlsProtocol::V1_1) => {
            let reason = ("RNG0315", "TLS before 1.2 is never spoken here".to_owned());
            return Err(error(&format!("{here}.maxProtocolVersion"), reason));
        }
    };
    let version_min = match tls.min_protocol_version {
        Some(TlsProtocol::V1_2) => Some(TlsVersion::V1_2),
        Some(TlsProtocol::V1_3) => Some(TlsVersion::V1_3),
        _ => None,
    };
    Ok(ServerSettings {
        identities,
        client_certificates,
        trust,
        version_min,
        version_max,
        cipher_suites: tls.cipher_suites.clone(),
        http: server.protocol() == "HTTPS",
    })
}

/// What a server asks of the certificates of its clients, as its manifest says it; empty: nothing. What a
/// Secret or a file holds is no part of it: renewed authorities are asked from the next connection on.
pub fn client_demand(server: &Server) -> String {
    let Some(tls) = &server.tls else { return String::new() };
    if !matches!(tls.mode, Some(TlsMode::Mutual | TlsMode::IstioMutual | TlsMode::OptionalMutual)) {
        return String::new();
    }
    let authorities = (
        (&tls.credential_name, &tls.credential_names, &tls.ca_cert_credential_name),
        (&tls.ca_certificates, &tls.ca_crl),
    );
    let conditions = (
        &tls.subject_alt_names,
        &tls.verify_certificate_spki,
        &tls.verify_certificate_hash,
        tls.insecure_skip_verify,
    );
    format!("{:?}", (tls.mode, authorities, conditions))
}

/// Settings of TLS to a service; none: it is called in clear text. The error says what is missing, as
/// validation told it.
pub fn client_settings(
    tls: &ClientTlsSettings,
    side: &ClientSide<'_>,
    credentials: &Credentials<'_>,
) -> Result<Option<ClientSettings>, Box<Diagnostic>> {
    let rule = side.rule;
    let Some(sources) = credential::of_client(tls, &rule.origin) else { return Ok(None) };
    let field = crate::config::credential_files::client_settings(rule)
        .find(|(_, own)| std::ptr::eq(*own, tls))
        .map_or_else(|| "spec".to_owned(), |(field, _)| field);
    let error = |field: &str, (code, reason): Missing| {
        let message = format!("{reason}: requests to the service get 503");
        Box::new(rule.diagnostic(Severity::Warning, code, field, &message, None))
    };
    let (identities, mut trust) = credentials
        .parts(&sources)
        .map_err(|(part, missing)| error(&format!("{field}.{part}"), missing))?;
    let identity = identities.into_iter().next();
    let mesh = tls.mode == Some(ClientTlsMode::IstioMutual);
    if identity.is_none() && (mesh || tls.mode == Some(ClientTlsMode::Mutual)) {
        let reason = ("IST0106", "this mode needs a certificate and its key".to_owned());
        return Err(error(&field, reason));
    }
    trust.skip_verification = !mesh && tls.insecure_skip_verify == Some(true);
    trust.subject_alt_names = names(&tls.subject_alt_names);
    if trust.subject_alt_names.is_empty() {
        trust.subject_alt_names = names(side.service_names);
    }
    trust.any_name = mesh && trust.subject_alt_names.is_empty();
    let server_name = tls.sni.clone().filter(|name| !name.is_empty());
    // The sidecars of a mesh are asked for as Istio names the cluster, with dots that a name can have.
    let server_name = server_name.or_else(|| mesh.then(|| mesh_name(side.cluster)));
    Ok(Some(ClientSettings { identity, trust, server_name, mesh }))
}

/// `outbound|80|v1|a.b` → `outbound_.80_.v1_.a.b`.
fn mesh_name(cluster: &str) -> String {
    cluster.replace('|', "_.")
}

fn names(list: &[String]) -> Vec<String> {
    list.iter().filter(|name| !name.is_empty()).cloned().collect()
}

#[cfg(test)]
mod tests;
