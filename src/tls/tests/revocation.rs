//! Revoked certificates in longer chains, on both sides.

use super::*;

/// An intermediate of `root` with this serial number.
fn intermediate(root: &Authority, serial: u64) -> Authority {
    let (mut params, key) = Authority::params();
    params.serial_number = Some(SerialNumber::from(serial));
    Authority { issuer: CertifiedIssuer::signed_by(params, key, &root.issuer).expect("signed") }
}

fn lists(lists: &[Bytes]) -> Option<Bytes> {
    Some(Bytes(lists.iter().flat_map(|list| list.0.clone()).collect()))
}

#[test]
fn every_certificate_of_a_chain_is_looked_up() {
    const INTERMEDIATE: u64 = 5;
    const LEAF: u64 = 7;
    let root = Authority::new();
    let between = intermediate(&root, INTERMEDIATE);
    let mut own = between.issue(LEAF);
    own.issuers.push(between.issuer.der().clone());
    let config = plain_client(&root, Some(&own));
    for (revocations, refusal) in [
        (None, None),
        (lists(&[root.revoke(99), between.revoke(99)]), None),
        (lists(&[root.revoke(INTERMEDIATE), between.revoke(99)]), Some("revoked")),
        (lists(&[root.revoke(99), between.revoke(LEAF)]), Some("revoked")),
        // A number of another issuer is another certificate.
        (lists(&[root.revoke(LEAF), between.revoke(INTERMEDIATE)]), None),
        // A list for one authority of the chain needs one for each.
        (lists(&[between.revoke(99)]), Some("unknown_revocation")),
        (lists(&[root.revoke(99)]), Some("unknown_revocation")),
    ] {
        let trust = Trust { authorities: Some(root.pem()), revocations, ..Trust::default() };
        let side = ClientSettings { trust: trust.clone(), ..ClientSettings::default() };
        let side = ClientTls::new(&side).expect("good settings");
        let asked = ask(&side, HOST, server_config(&own, None));
        assert_eq!(asked.err().map(|error| error.reason()), refusal);
        let tls = asking(&root, Required, trust);
        let (outcome, served) = serve(&tls, Arc::clone(&config));
        assert_eq!(outcome.err().map(|error| error.reason()), refusal);
        assert_eq!(served, refusal.is_none());
    }
}
