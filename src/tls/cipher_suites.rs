//! TLS 1.2 cipher suites by the names that OpenSSL gives them, as manifests do.

use rustls::{CipherSuite, SupportedCipherSuite};

/// OpenSSL's name, what rustls calls it.
const SUITES: &[(&str, CipherSuite)] = &[
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Is the TLS 1.2 suite with this OpenSSL name spoken here? For validation to warn with.
pub fn is_supported(name: &str) -> bool {
    suite(name).is_some()
}

fn suite(name: &str) -> Option<CipherSuite> {
    let (_, suite) = SUITES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(*suite)
}

/// The suites of `all` for TLS 1.3, then those for TLS 1.2 that `names` call, in the order of `names`:
/// it is the order in which the server prefers them.
pub(super) fn chosen(names: &[String], all: &[SupportedCipherSuite]) -> Vec<SupportedCipherSuite> {
    let mut suites: Vec<_> = all.iter().copied().filter(|suite| suite.tls13().is_some()).collect();
    for wanted in names.iter().filter_map(|name| suite(name)) {
        let found = all.iter().copied().find(|suite| suite.suite() == wanted);
        suites.extend(found.filter(|suite| !suites.contains(suite)));
    }
    suites
}

/// The name for logs: OpenSSL's for TLS 1.2, the standard's for TLS 1.3.
pub(super) fn name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        _ => SUITES.iter().find(|(_, known)| *known == suite).map_or("unknown", |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_suite_of_the_provider() {
        let all = super::super::crypto::provider();
        for (openssl, suite) in SUITES {
            assert!(is_supported(openssl));
            assert!(all.cipher_suites.iter().any(|known| known.suite() == *suite), "{openssl}");
            assert_eq!(name(*suite), *openssl);
        }
        for suite in &all.cipher_suites {
            assert_ne!(name(suite.suite()), "unknown");
        }
        assert!(!is_supported("AES128-SHA"));
    }

    #[test]
    fn chosen_suites_keep_their_order_once() {
        let all = super::super::crypto::provider();
        let names = ["ECDHE-RSA-AES128-GCM-SHA256", "AES128-SHA", "ECDHE-RSA-AES256-GCM-SHA384"];
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.push(names[0].clone());
        let chosen = chosen(&names, &all.cipher_suites);
        let of_1_2: Vec<_> = chosen.iter().filter(|suite| suite.tls13().is_none()).collect();
        let called: Vec<_> = of_1_2.iter().map(|suite| name(suite.suite())).collect();
        assert_eq!(called, ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]);
        assert_eq!(chosen.len(), of_1_2.len() + 3, "all of TLS 1.3");
    }
}
