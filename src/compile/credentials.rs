//! TLS settings of manifests, Secrets and files → the plain settings that both sides of TLS are made of
//! (behaviour 2.5, 2.6, 4.8).
//!
//! What is missing or bad is an error here: a server then fails its handshakes, a service gets no requests.

use crate::config::credential::{self, Sources};
use crate::config::destination_rule::{ClientTlsMode, ClientTlsSettings, DestinationRule};
use crate::config::gateway::{Gateway, Server, TlsMode, TlsProtocol};
use crate::config::{Diagnostic, Object, Origin, Severity};
use crate::tls::TlsError;
use crate::tls::settings::{ClientCertificates, ClientSettings, ServerSettings, TlsVersion};
use crate::validate::parts::{Parts, Unusable};

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

/// Why there are no settings: code, words, help.
type Missing = (&'static str, String, Option<String>);

fn missing(code: &'static str, reason: &str) -> Missing {
    (code, reason.to_owned(), None)
}

fn unusable(why: &Unusable<'_>) -> Missing {
    (why.code(), why.to_string(), why.help())
}

/// A server and what its settings are made of.
pub struct ServerSide<'r> {
    /// The server.
    pub server: &'r Server,
    /// The Gateway that it is of.
    pub gateway: &'r Object<Gateway>,
    /// What it comes to when there are none: how a finding ends.
    pub effect: &'r str,
}

impl ServerSide<'_> {
    /// Of `tls` of the server, or of the server itself.
    fn finding(&self, field: &str, (code, reason, help): Missing) -> Box<Diagnostic> {
        let mut servers = self.gateway.spec.servers.iter();
        let index = servers.position(|own| std::ptr::eq(own, self.server)).unwrap_or_default();
        let dot = if field.is_empty() { "" } else { "." };
        let field = format!("spec.servers[{index}]{dot}{field}");
        let message = format!("{reason}: {}", self.effect);
        let gateway = self.gateway;
        Box::new(gateway.diagnostic(Severity::Warning, code, &field, &message, help.as_deref()))
    }

    fn sources(&self) -> Option<Sources> {
        credential::of_server(self.server.tls.as_ref()?, &self.gateway.origin)
    }

    /// Why no side could be made of the settings: the part that is bad, else what `error` says.
    pub fn failure(&self, error: &TlsError, parts: &Parts<'_>) -> Box<Diagnostic> {
        match self.sources().map(|sources| parts.judge(&sources)) {
            Some(Err((part, why))) => self.finding(&format!("tls.{part}"), unusable(&why)),
            _ => self.finding("tls", missing("IST0161", &error.to_string())),
        }
    }
}

/// Settings of a server that ends TLS. The error is the warning why there are none; where validation saw
/// it, it has told the same with the same code and field.
pub fn server_settings(
    side: &ServerSide<'_>,
    parts: &Parts<'_>,
) -> Result<ServerSettings, Box<Diagnostic>> {
    let ServerSide { server, .. } = side;
    let Some((tls, sources)) = server.tls.as_ref().zip(side.sources()) else {
        return Err(side.finding("", missing("IST0106", "TLS does not end at this server")));
    };
    let (identities, mut trust) = parts
        .all(&sources)
        .map_err(|(part, why)| side.finding(&format!("tls.{part}"), unusable(&why)))?;
    if identities.is_empty() {
        let reason = missing("IST0106", "this mode needs a certificate and its key");
        return Err(side.finding("tls", reason));
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
            let reason = missing("IST0106", "this mode needs the CA of the clients");
            return Err(side.finding("tls", reason));
        }
    }
    let version_max = match tls.max_protocol_version {
        None | Some(TlsProtocol::Auto) => None,
        Some(TlsProtocol::V1_3) => Some(TlsVersion::V1_3),
        Some(TlsProtocol::V1_2) => Some(TlsVersion::V1_2),
        Some(TlsProtocol::V1_0 | TlsProtocol::V1_1) => {
            let reason = missing("RNG0315", "TLS before 1.2 is never spoken here");
            return Err(side.finding("tls.maxProtocolVersion", reason));
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
pub fn client_demand(server: &Server, origin: &Origin) -> String {
    let Some(tls) = &server.tls else { return String::new() };
    if !matches!(tls.mode, Some(TlsMode::Mutual | TlsMode::IstioMutual | TlsMode::OptionalMutual)) {
        return String::new();
    }
    let sources = credential::of_server(tls, origin);
    let places = sources.map(|sources| (sources.authorities, sources.revocations));
    let conditions = (
        &tls.subject_alt_names,
        &tls.verify_certificate_spki,
        &tls.verify_certificate_hash,
        tls.insecure_skip_verify,
    );
    format!("{:?}", (tls.mode, places, conditions))
}

/// Settings of TLS to a service; none: it is called in clear text. The error says what is missing, as
/// validation told it.
pub fn client_settings(
    tls: &ClientTlsSettings,
    side: &ClientSide<'_>,
    parts: &Parts<'_>,
) -> Result<Option<ClientSettings>, Box<Diagnostic>> {
    let rule = side.rule;
    let Some(sources) = credential::of_client(tls, &rule.origin) else { return Ok(None) };
    let field = crate::config::credential_files::client_settings(rule)
        .find(|(_, own)| std::ptr::eq(*own, tls))
        .map_or_else(|| "spec".to_owned(), |(field, _)| field);
    let error = |field: &str, (code, reason, help): Missing| {
        let message = format!("{reason}: requests to the service get 503");
        Box::new(rule.diagnostic(Severity::Warning, code, field, &message, help.as_deref()))
    };
    let (identities, mut trust) = parts
        .all(&sources)
        .map_err(|(part, why)| error(&format!("{field}.{part}"), unusable(&why)))?;
    let identity = identities.into_iter().next();
    let mesh = tls.mode == Some(ClientTlsMode::IstioMutual);
    if identity.is_none() && (mesh || tls.mode == Some(ClientTlsMode::Mutual)) {
        return Err(error(&field, missing("IST0106", "this mode needs a certificate and its key")));
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
