//! `/certs`: the certificates in use and how long they are good, as Envoy shows them. Never a key.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::parameters::{Parameters, QueryError};
use super::server::json;
use super::state::AdminState;
use crate::access_log::timestamp;
use crate::snapshot::{Serves, Snapshot};
use crate::tls::certificate::{Certificate, InUse};

const SECONDS_OF_DAY: i64 = 86_400;
/// What Envoy says of certificates that it was given, not told the files of. Ours are of Secrets or files
/// that were read when the configuration was compiled.
const INLINE: &str = "<inline>";

#[derive(Serialize)]
struct CertsPage {
    certificates: Vec<UsedCertificates>,
}

#[derive(Serialize)]
struct UsedCertificates {
    /// Who uses them: the server of a Gateway, or the cluster.
    name: String,
    ca_cert: Vec<ShownCertificate>,
    cert_chain: Vec<ShownCertificate>,
}

/// Numbers are texts where they are in Envoy's.
#[derive(Debug, PartialEq, Serialize)]
struct ShownCertificate {
    path: &'static str,
    serial_number: String,
    subject_alt_names: Vec<AlternativeName>,
    days_until_expiration: String,
    valid_from: String,
    expiration_time: String,
    /// Ours: who it is of.
    subject: String,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum AlternativeName {
    Dns(String),
    Uri(String),
    IpAddress(String),
    Email(String),
}

/// The page.
pub(super) async fn certs(
    State(state): State<AdminState>,
    query: Parameters,
) -> Result<Response, QueryError> {
    query.end(&[])?;
    let snapshot = state.snapshot.load();
    // Reading thousands of certificates takes a while, and the control loop shares this thread.
    let page = tokio::task::spawn_blocking(move || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let certificates = snapshot.as_deref().map(|snapshot| used(snapshot, now.as_secs() as i64));
        CertsPage { certificates: certificates.unwrap_or_default() }
    });
    Ok(match page.await {
        Ok(page) => json(&page),
        Err(_) => {
            let text = "reading the certificates failed; the process log says how\n";
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    })
}

fn used(snapshot: &Snapshot, now: i64) -> Vec<UsedCertificates> {
    let mut all = Vec::new();
    let mut add = |name: &str, in_use: InUse| {
        let shown = |list: Vec<Certificate>| {
            list.into_iter().map(|certificate| ShownCertificate::of(certificate, now)).collect()
        };
        if !in_use.authorities.is_empty() || !in_use.chains.is_empty() {
            let (ca_cert, cert_chain) = (shown(in_use.authorities), shown(in_use.chains));
            all.push(UsedCertificates { name: name.to_owned(), ca_cert, cert_chain });
        }
    };
    for listener in &snapshot.listeners {
        let Serves::Tls(port) = &listener.serves else { continue };
        for chain in &port.chains {
            if let Some(tls) = &chain.tls {
                add(&chain.name, tls.certificates());
            }
        }
    }
    for cluster in &snapshot.clusters {
        if let Some(tls) = &cluster.tls {
            add(&cluster.name, tls.side.certificates());
        }
    }
    all
}

impl ShownCertificate {
    fn of(certificate: Certificate, now: i64) -> ShownCertificate {
        let left = (certificate.not_after - now).max(0) / SECONDS_OF_DAY;
        let dns = certificate.dns_names.into_iter().map(AlternativeName::Dns);
        let uris = certificate.uris.into_iter().map(AlternativeName::Uri);
        let addresses = certificate.addresses.iter().map(ToString::to_string);
        let addresses = addresses.map(AlternativeName::IpAddress);
        let emails = certificate.emails.into_iter().map(AlternativeName::Email);
        ShownCertificate {
            path: INLINE,
            serial_number: certificate.serial,
            subject_alt_names: dns.chain(uris).chain(addresses).chain(emails).collect(),
            days_until_expiration: left.to_string(),
            valid_from: time(certificate.not_before),
            expiration_time: time(certificate.not_after),
            subject: certificate.subject,
        }
    }
}

/// `2026-11-24T12:00:00Z`. Times before 1970 are shown as 1970.
fn time(unix: i64) -> String {
    let mut out = Vec::new();
    timestamp::append(&mut out, u64::try_from(unix).unwrap_or(0).saturating_mul(1_000_000));
    let text = String::from_utf8_lossy(&out);
    match text.strip_suffix(".000Z") {
        Some(seconds) => format!("{seconds}Z"),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_envoys() {
        let certificate = Certificate {
            subject: "CN=shop".to_owned(),
            serial: "0a".to_owned(),
            dns_names: vec!["shop.example.com".to_owned()],
            uris: vec!["spiffe://a".to_owned()],
            addresses: vec!["10.0.0.1".parse().unwrap()],
            not_before: 1_577_836_800,
            not_after: 1_577_836_800 + 10 * SECONDS_OF_DAY,
            ..Certificate::default()
        };
        let shown = ShownCertificate::of(certificate.clone(), 1_577_836_801);
        assert_eq!(
            serde_json::to_string(&shown).unwrap(),
            "{\"path\":\"<inline>\",\"serial_number\":\"0a\",\"subject_alt_names\":[\
             {\"dns\":\"shop.example.com\"},{\"uri\":\"spiffe://a\"},{\"ip_address\":\"10.0.0.1\"}],\
             \"days_until_expiration\":\"9\",\"valid_from\":\"2020-01-01T00:00:00Z\",\
             \"expiration_time\":\"2020-01-11T00:00:00Z\",\"subject\":\"CN=shop\"}"
        );
        let late = ShownCertificate::of(certificate, i64::MAX / 2);
        assert_eq!(late.days_until_expiration, "0");
    }
}
