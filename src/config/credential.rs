//! Credentials as manifests name them: which Secrets and files the TLS of a server or of a service takes
//! its parts from, and where they stand in a Secret (behaviour 2.5, 2.6, 4.8). No judgement, no file is
//! read.

use std::collections::HashMap;

use super::credential_files::{CredentialFile, MeshFolders};
use super::destination_rule::{ClientTlsMode, ClientTlsSettings};
use super::gateway::{ServerTlsSettings, TlsMode};
use super::kube::Secret;
use super::{Object, Origin, ResourceSet};
use crate::tls::settings::{Bytes, Identity};

/// Where certificate and key stand in a Secret; the first that is there is used.
const PAIRS: [(&str, &str); 2] = [("cert", "key"), ("tls.crt", "tls.key")];
/// Where authorities and their revocation list stand; the first that is there is used.
const AUTHORITIES: [(&str, &str); 2] = [("cacert", "crl"), ("ca.crt", "ca.crl")];
/// An OCSP response to staple, DER.
const OCSP_STAPLE: &str = "tls.ocsp-staple";
/// What is put after the name of a Secret to name the one with its authorities.
const BESIDE: &str = "-cacert";
/// The value of `caCertificates` that stands for the authorities of the system.
const SYSTEM: &str = "system";

/// Why a Secret holds nothing to use. Each completes a sentence that begins with the Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// None of the names.
    #[error("has neither `tls.crt` and `tls.key` nor `cert` and `key`")]
    NoPair,
    /// One half of a pair.
    #[error("has no `{0}`")]
    Missing(&'static str),
    /// No authorities.
    #[error("has no CA (`ca.crt` or `cacert`)")]
    NoAuthorities,
    /// A value in `data` that cannot be decoded.
    #[error("has a `{0}` that is not base64")]
    NotBase64(&'static str),
    /// Istio refuses empty values, too.
    #[error("has an empty `{0}`")]
    Empty(&'static str),
}

impl CredentialError {
    /// The name of the value that is bad.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            CredentialError::NotBase64(key) | CredentialError::Empty(key) => Some(key),
            _ => None,
        }
    }
}

/// Certificate and key of a Secret with the names of both. Whether they are PEM is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretIdentity {
    /// What they are.
    pub identity: Identity,
    /// Name of the certificate's value.
    pub certificate_key: &'static str,
    /// Name of the key's value.
    pub private_key_key: &'static str,
}

/// Authorities of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretAuthorities {
    /// Certificates, PEM.
    pub authorities: Bytes,
    /// Name of their value.
    pub authorities_key: &'static str,
    /// Revocation lists, PEM.
    pub revocations: Option<Bytes>,
    /// Name of their value.
    pub revocations_key: &'static str,
}

/// A value that must not be empty; none when it is not there.
fn value(secret: &Secret, key: &'static str) -> Result<Option<Bytes>, CredentialError> {
    match secret.value(key) {
        None => Ok(None),
        Some(None) => Err(CredentialError::NotBase64(key)),
        Some(Some(bytes)) if bytes.is_empty() => Err(CredentialError::Empty(key)),
        Some(Some(bytes)) => Ok(Some(Bytes(bytes))),
    }
}

/// Certificate and key of a Secret (behaviour 2.6.2).
pub fn identity(secret: &Secret) -> Result<SecretIdentity, CredentialError> {
    let here = |(one, other): &&(&str, &str)| secret.has(one) || secret.has(other);
    let Some((certificate, key)) = PAIRS.iter().find(here).copied() else {
        return Err(CredentialError::NoPair);
    };
    let needed =
        |name| value(secret, name).and_then(|value| value.ok_or(CredentialError::Missing(name)));
    let identity = Identity {
        chain: needed(certificate)?,
        key: needed(key)?,
        ocsp_staple: value(secret, OCSP_STAPLE)?,
    };
    Ok(SecretIdentity { identity, certificate_key: certificate, private_key_key: key })
}

/// Authorities of a Secret, with revocation lists (behaviour 2.6.3).
pub fn authorities(secret: &Secret) -> Result<SecretAuthorities, CredentialError> {
    for (authorities_key, revocations_key) in AUTHORITIES {
        if let Some(authorities) = value(secret, authorities_key)? {
            let revocations = value(secret, revocations_key)?;
            return Ok(SecretAuthorities {
                authorities,
                authorities_key,
                revocations,
                revocations_key,
            });
        }
    }
    Err(CredentialError::NoAuthorities)
}

/// The Secrets of one namespace: that of the gateway, the only one that credentials are taken from.
pub struct Secrets<'r> {
    by_name: HashMap<&'r str, &'r Object<Secret>>,
}

impl<'r> Secrets<'r> {
    /// Those of `namespace`.
    pub fn of(resources: &'r ResourceSet, namespace: &str) -> Secrets<'r> {
        let own = resources.secrets().filter(|object| object.meta.namespace == namespace);
        Secrets { by_name: own.map(|object| (object.meta.name.as_str(), object)).collect() }
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&'r Object<Secret>> {
        self.by_name.get(name).copied()
    }

    /// The one with the authorities that go with the credential `name`: the one beside it, or itself.
    pub fn with_authorities(&self, name: &str) -> Option<&'r Object<Secret>> {
        self.get(&format!("{name}{BESIDE}")).or_else(|| self.get(name))
    }
}

/// Where a part comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A Secret of the gateway's namespace.
    Secret(String),
    /// The Secret beside the one that is named, or else that one; for authorities.
    SecretOrBeside(String),
    /// A file, or two.
    File(CredentialFile),
    /// The files by which a workload of a mesh gets its certificate.
    Mesh,
    /// A form of credential name that is not read.
    Unsupported(String),
}

/// A part with the field that says where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Below `tls`: `credentialNames[0]`.
    pub field: String,
    /// Where it comes from.
    pub source: Source,
}

/// The parts of one side of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Certificates with their keys.
    pub identities: Vec<Named>,
    /// Which certificates of the other side are good; none: it is not asked, or the system says.
    pub authorities: Option<Named>,
    /// Which of them are good no longer.
    pub revocations: Option<Named>,
}

impl Sources {
    /// Every file among them, those of a mesh in these folders.
    pub fn files(&self, mesh: &MeshFolders) -> impl Iterator<Item = CredentialFile> {
        let all = self.identities.iter().chain(&self.authorities).chain(&self.revocations);
        all.flat_map(|named| match &named.source {
            Source::File(file) => vec![file.clone()],
            Source::Mesh => mesh.files().flatten().collect(),
            _ => Vec::new(),
        })
    }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// A credential name: `kubernetes://name` is the long form of `name`.
fn secret(name: &str, source: fn(String) -> Source) -> Source {
    match name.strip_prefix("kubernetes://").unwrap_or(name) {
        name if name.contains("://") || name.contains('/') => Source::Unsupported(name.to_owned()),
        name => source(name.to_owned()),
    }
}

fn named(field: &str, source: Source) -> Named {
    Named { field: field.to_owned(), source }
}

fn mesh() -> Sources {
    let mesh = || named("mode", Source::Mesh);
    Sources { identities: vec![mesh()], authorities: Some(mesh()), revocations: None }
}

/// The parts of a server's TLS; `origin` is where its Gateway stands. `None`: TLS does not end here.
pub fn of_server(tls: &ServerTlsSettings, origin: &Origin) -> Option<Sources> {
    let mutual = match tls.mode.unwrap_or(TlsMode::Passthrough) {
        TlsMode::Passthrough | TlsMode::AutoPassthrough => return None,
        TlsMode::IstioMutual => return Some(mesh()),
        TlsMode::Simple => false,
        TlsMode::Mutual | TlsMode::OptionalMutual => true,
    };
    let pair = |certificate: &str, key: &str| {
        Source::File(CredentialFile::identity(origin, certificate, key))
    };
    let mut sources = Sources::default();
    let mut first_secret = None;
    if let Some(name) = given(&tls.credential_name) {
        first_secret = Some((name, "credentialName".to_owned()));
        sources.identities.push(named("credentialName", secret(name, Source::Secret)));
    } else if !tls.credential_names.is_empty() {
        for (index, name) in tls.credential_names.iter().enumerate() {
            let field = format!("credentialNames[{index}]");
            sources.identities.push(named(&field, secret(name, Source::Secret)));
            first_secret.get_or_insert((name, field));
        }
    } else if !tls.tls_certificates.is_empty() {
        for (index, of) in tls.tls_certificates.iter().enumerate() {
            if let (Some(certificate), Some(key)) =
                (given(&of.server_certificate), given(&of.private_key))
            {
                let field = format!("tlsCertificates[{index}]");
                sources.identities.push(named(&field, pair(certificate, key)));
            }
        }
    } else if let (Some(certificate), Some(key)) =
        (given(&tls.server_certificate), given(&tls.private_key))
    {
        sources.identities.push(named("serverCertificate", pair(certificate, key)));
    }
    if !mutual || tls.insecure_skip_verify == Some(true) {
        return Some(sources);
    }
    if let Some(name) = given(&tls.ca_cert_credential_name) {
        let source = secret(name, Source::Secret);
        sources.authorities = Some(named("caCertCredentialName", source));
    } else if let Some((name, field)) = first_secret {
        sources.authorities = Some(named(&field, secret(name, Source::SecretOrBeside)));
    } else {
        let list = |text: &str| Source::File(CredentialFile::authorities(origin, text));
        sources.authorities = match given(&tls.ca_certificates) {
            Some(path) => Some(named("caCertificates", list(path))),
            None => tls.tls_certificates.iter().enumerate().find_map(|(index, of)| {
                let field = format!("tlsCertificates[{index}].caCertificates");
                Some(named(&field, list(given(&of.ca_certificates)?)))
            }),
        };
        sources.revocations = given(&tls.ca_crl)
            .map(|path| named("caCrl", Source::File(CredentialFile::revocations(origin, path))));
    }
    Some(sources)
}

/// The parts of TLS to a service; `origin` is where its DestinationRule stands. `None`: there is none.
pub fn of_client(tls: &ClientTlsSettings, origin: &Origin) -> Option<Sources> {
    let mutual = match tls.mode.unwrap_or(ClientTlsMode::Disable) {
        ClientTlsMode::Disable => return None,
        ClientTlsMode::IstioMutual => return Some(mesh()),
        ClientTlsMode::Simple => false,
        ClientTlsMode::Mutual => true,
    };
    let verifies = tls.insecure_skip_verify != Some(true);
    let mut sources = Sources::default();
    if let Some(name) = given(&tls.credential_name) {
        if mutual {
            sources.identities.push(named("credentialName", secret(name, Source::Secret)));
        }
        if verifies {
            let source = secret(name, Source::SecretOrBeside);
            sources.authorities = Some(named("credentialName", source));
        }
        return Some(sources);
    }
    if mutual
        && let (Some(certificate), Some(key)) =
            (given(&tls.client_certificate), given(&tls.private_key))
    {
        let file = CredentialFile::identity(origin, certificate, key);
        sources.identities.push(named("clientCertificate", Source::File(file)));
    }
    if verifies {
        let path = given(&tls.ca_certificates).filter(|path| !path.eq_ignore_ascii_case(SYSTEM));
        sources.authorities = path.map(|path| {
            named("caCertificates", Source::File(CredentialFile::authorities(origin, path)))
        });
        sources.revocations = given(&tls.ca_crl)
            .map(|path| named("caCrl", Source::File(CredentialFile::revocations(origin, path))));
    }
    Some(sources)
}
