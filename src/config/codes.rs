//! Every code that a finding can carry: one table for `check`, for SARIF and for `docs/findings.md`.

use super::Severity;

/// What a code stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Istio's analyzer code (`IST0101`) where it has one, else ours (`RNG0001`).
    pub id: &'static str,
    /// Name in camel case; for Istio's codes the one of its own list.
    pub name: &'static str,
    /// The worst severity that findings of this code have.
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub meaning: &'static str,
    /// What to do about it, when the finding itself has nothing better to say.
    pub mend: &'static str,
}

/// The row of a code.
pub fn find(id: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.id == id)
}

macro_rules! codes {
    ($($id:literal $name:literal $severity:ident: $meaning:literal, $mend:literal;)*) => {
        /// All codes, in order.
        pub const CODES: &[Code] = &[$(Code {
            id: $id,
            name: $name,
            severity: Severity::$severity,
            meaning: $meaning,
            mend: $mend,
        }),*];
    };
}

codes! {
    "IST0002" "Deprecated" Warning:
        "A field is deprecated.",
        "use the field that the finding names";
    "IST0101" "ReferencedResourceNotFound" Warning:
        "A name points to nothing: a Gateway, a host, a port, a subset or a Secret.",
        "mend the name, or add what it names to the manifests that are checked";
    "IST0106" "SchemaValidationError" Error:
        "The object breaks a rule of Istio's schema or validation. It is not served.",
        "mend the field that the finding points to";
    "IST0112" "VirtualServiceDestinationPortSelectorRequired" Warning:
        "A destination names a service with several ports, but no port.",
        "add `port: {number}` to the destination";
    "IST0118" "PortNameIsNotUnderNamingConvention" Info:
        "The name of a Service's port does not begin with a protocol.",
        "name it `http`, `http-…`, `grpc`, `tcp-…`, or set `appProtocol`";
    "IST0127" "NoMatchingWorkloadsFound" Info:
        "A Gateway selects other gateways than this one.",
        "check with the labels of its own gateway: --labels key=value";
    "IST0128" "NoServerCertificateVerificationDestinationLevel" Warning:
        "A DestinationRule uses TLS and names no `caCertificates`: older Istio then verifies nothing.",
        "add `caCertificates` and `subjectAltNames`";
    "IST0129" "NoServerCertificateVerificationPortLevel" Warning:
        "A DestinationRule uses TLS for a port and names no `caCertificates`: older Istio then verifies nothing.",
        "add `caCertificates` and `subjectAltNames` for that port";
    "IST0130" "VirtualServiceUnreachableRule" Warning:
        "A rule is never used: an earlier one takes all its requests.",
        "move it to the front, narrow the earlier rule, or remove it";
    "IST0131" "VirtualServiceIneffectiveMatch" Warning:
        "A match never decides: a match of an earlier rule takes its requests.",
        "put the narrower match first, or remove this one";
    "IST0132" "VirtualServiceHostNotFoundInGateway" Warning:
        "No server of the VirtualService's Gateways has its host.",
        "add the host to a server of the Gateway, or mend the host";
    "IST0133" "SchemaValidationWarning" Warning:
        "Istio's validation accepts the object with a warning.",
        "mend the field that the finding points to";
    "IST0134" "ServiceEntryAddressesRequired" Warning:
        "A ServiceEntry has a TCP port, but no addresses to tell it from others.",
        "add `addresses`";
    "IST0138" "GatewayDuplicateCertificate" Warning:
        "Two Gateways use one certificate: a browser may use a connection of one for hosts of the other.",
        "put the servers with one certificate into one Gateway";
    "IST0140" "IngressRouteRulesNotAffected" Warning:
        "Subsets of a VirtualService for the mesh have no effect on requests through a gateway.",
        "name the subset in the destination of the gateway's VirtualService too";
    "IST0145" "ConflictingGateways" Warning:
        "Two Gateways have the same port and host.",
        "give them different hosts or ports, or merge them";
    "IST0150" "ExternalNameServiceTypeInvalidPortName" Warning:
        "A port of an ExternalName Service is called `tcp`: other traffic of that port may be caught by it.",
        "name the port after what is spoken on it";
    "IST0161" "InvalidGatewayCredential" Warning:
        "The Secret that a Gateway names is there, but has no usable certificate and key, or an expired one.",
        "give it `tls.crt` and `tls.key` in PEM";
    "IST0162" "GatewayPortNotDefinedOnService" Warning:
        "The gateway's Service does not have the port of a Gateway's server.",
        "add the port to the Service, or use one that it has";
    "IST0165" "ReferencedInternalGateway" Warning:
        "A VirtualService names a Gateway that Istio generates for itself.",
        "name a Gateway of your own";
    "IST0173" "DestinationRuleSubsetNotSelectPods" Warning:
        "A subset selects none of the endpoints of its service.",
        "mend the subset's labels, or label the endpoints";
    "IST0174" "UnknownDestinationRuleHost" Warning:
        "The host of a DestinationRule is no known service.",
        "mend the host, or add the Service or ServiceEntry";
    "IST0177" "ConflictingServiceEntryProtocol" Warning:
        "ServiceEntries give one host and port different protocols.",
        "give all of them the same protocol";
    "RNG0001" "UnreadableFile" Error:
        "A file or directory cannot be read.",
        "check the path and its permissions";
    "RNG0002" "NotYaml" Error:
        "A file is not valid YAML. No object of it is taken.",
        "mend the syntax at that place";
    "RNG0003" "SkippedKind" Info:
        "Objects of a kind that this gateway does not serve were left out.",
        "nothing, unless the gateway should serve them";
    "RNG0004" "DuplicateKey" Error:
        "A key stands twice in one mapping.",
        "remove one of the two";
    "RNG0005" "NotAnObject" Error:
        "A document is no object: kind, version or name is missing or unknown.",
        "give it `apiVersion`, `kind` and `metadata.name`";
    "RNG0006" "DuplicateObject" Error:
        "Two objects have the same kind, namespace and name. The first is used.",
        "give one of them another name or namespace";
    "RNG0100" "NotHonoured" Warning:
        "A field of Istio is read, but this version does not honour it.",
        "remove the field, or do without what it does until it is honoured";
    "RNG0101" "FramingHeader" Warning:
        "An operation on a header that frames messages has no effect: only the gateway sets it.",
        "remove the operation";
    "RNG0201" "NotAnAddress" Error:
        "A server's `bind` is nothing that can be listened on.",
        "give it an IP address, or remove the server";
    "RNG0202" "RouteTableTooLarge" Error:
        "The route table of a port cannot be built.",
        "reduce what the finding names";
    "RNG0203" "PolicyNotBuilt" Error:
        "A match or policy of a rule cannot be built. It is left out.",
        "mend the field that the finding points to";
    "RNG0204" "DelegateNotFound" Warning:
        "A rule delegates to a VirtualService that is not there or not visible. The rule is left out.",
        "mend `delegate`, or add the VirtualService; it must have no hosts";
    "RNG0205" "PassthroughBalancing" Warning:
        "A DestinationRule asks for PASSTHROUGH, by which a gateway would call itself.",
        "name an algorithm";
    "RNG0206" "WorkloadsNotFound" Warning:
        "A selector of a ServiceEntry finds no WorkloadEntry, or one that it cannot use.",
        "mend the labels, or add WorkloadEntries";
    "RNG0207" "ServerNameTaken" Warning:
        "A `tls` match asks for a server name that an earlier match has. The whole match is left out, as in Istio.",
        "remove the name here or there: the earlier match keeps it";
    "RNG0208" "ServerLeftOut" Warning:
        "A server of a Gateway is left out: its port or one of its hosts is an earlier server's.",
        "give it a port or hosts of its own";
    "RNG0209" "MeshNamesOnly" Info:
        "A server with mode AUTO_PASSTHROUGH serves only sidecars of a mesh, which name a cluster as `outbound_.<port>_.<subset>_.<host>`.",
        "give other clients a server with mode PASSTHROUGH or SIMPLE";
    "RNG0210" "MergedHost" Info:
        "Two VirtualServices have the same host on one Gateway: their rules are merged in order of age, then name.",
        "keep the rules of one host in one VirtualService, or delegate";
    "RNG0211" "UnevenWeights" Warning:
        "The weights of several destinations do not add up to 100, or one of them has none.",
        "let the weights add up to 100";
    "RNG0301" "OldTlsVersion" Warning:
        "A server asks for TLS before 1.2, which is never spoken here.",
        "use `minProtocolVersion: TLSV1_2`";
    "RNG0302" "OutlierDetectionWithoutEffect" Warning:
        "Outlier detection can eject no endpoint: one of them is more than `maxEjectionPercent` allows.",
        "set `maxEjectionPercent` to 100 divided by the number of endpoints, or more";
    "RNG0310" "UnusableSecret" Error:
        "A Secret that is used as a credential cannot be. Its last good version stays in force, if there is one.",
        "mend the Secret: certificate, key and CA in PEM, and the key that belongs to the certificate";
    "RNG0311" "UnusableCredentialFile" Warning:
        "A file with a certificate, key, CA or revocation list cannot be used. Its last good version stays in use, if there is one.",
        "mend the file, its path or its permissions; it is read again when it changes";
    "RNG0312" "CertificateOutOfDate" Warning:
        "A certificate expired, is not valid yet, or expires within 30 days. It is served all the same.",
        "renew the certificate";
    "RNG0313" "CertificateForOtherHosts" Warning:
        "The certificate of a server is not for one of its hosts.",
        "use a certificate that has the host among its names (subjectAltName)";
    "RNG0314" "CipherSuiteNotSpoken" Error:
        "A server asks for cipher suites that are never spoken here. With none that is, the Gateway is refused.",
        "use suites of ECDHE with AES-GCM or CHACHA20-POLY1305, or remove `cipherSuites`";
    "RNG0315" "NoTlsVersionLeft" Error:
        "No version of TLS is left that the server could speak: only 1.2 and 1.3 are spoken here.",
        "use `maxProtocolVersion: TLSV1_3`, or remove it";
    "RNG0401" "ObjectiveUnusable" Error:
        "A ServiceLevelObjective does not say what is promised. It is not measured.",
        "mend the field that the finding points to; see docs/slo.md";
    "RNG0402" "ObjectiveOfNothing" Warning:
        "A ServiceLevelObjective is about a host or route for which no request is counted.",
        "mend the name, or add what it names to the manifests";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;
    use std::path::{Path, PathBuf};

    use super::*;

    /// `docs/findings.md` as the table has it.
    fn page() -> String {
        let mut page = String::from(
            "# Findings\n\n\
             What `ringress check` reports, and `ringress run` at its start and at each reload. Codes that begin\n\
             with `IST` are those of Istio's analyzers and mean the same; those that begin with `RNG` are of\n\
             Ringress. The severity is the worst that a finding of the code has: an error keeps its object, or the\n\
             part it names, from being served; a warning changes nothing. `src/config/codes.rs` is the source of\n\
             this table, and a test compares them.\n\n\
             | Code | Name | Severity | What it means | What to do |\n| --- | --- | --- | --- | --- |\n",
        );
        for code in CODES {
            let Code { id, name, severity, meaning, mend } = code;
            writeln!(page, "| {id} | {name} | {} | {meaning} | {mend} |", severity.as_str())
                .expect("a String takes all");
        }
        page
    }

    #[test]
    fn the_table_is_in_order_and_complete() {
        assert!(CODES.windows(2).all(|pair| pair[0].id < pair[1].id), "sorted, no code twice");
        let names: BTreeSet<&str> = CODES.iter().map(|code| code.name).collect();
        assert_eq!(names.len(), CODES.len(), "every code has a name of its own");
        for code in CODES {
            assert!(code.meaning.ends_with('.'), "{}: a sentence", code.id);
            assert!(!code.mend.is_empty() && !code.mend.ends_with('.'), "{}: a help", code.id);
            for text in [code.meaning, code.mend] {
                assert!(!text.contains('|'), "{}: {text} breaks the table", code.id);
            }
        }
        assert_eq!(find("IST0101").map(|code| code.name), Some("ReferencedResourceNotFound"));
        assert_eq!(find("IST9999"), None);
    }

    #[test]
    fn the_page_of_the_findings_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/findings.md");
        if std::env::var_os("RINGRESS_WRITE_PAGES").is_some() {
            std::fs::write(&path, page()).expect("written");
        }
        let written = std::fs::read_to_string(&path).expect("docs/findings.md");
        assert!(
            written == page(),
            "docs/findings.md is not what the table says: run this test with RINGRESS_WRITE_PAGES=1"
        );
    }

    /// Codes as they are written in the sources, without those of this table.
    fn codes_in_sources() -> BTreeSet<String> {
        let mut folders: Vec<PathBuf> = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut found = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    // Tests name codes that do not exist.
                    if !path.ends_with("tests") {
                        folders.push(path);
                    }
                    continue;
                }
                if path.ends_with("config/codes.rs") || path.ends_with("tests.rs") {
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("readable");
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                for (at, _) in text.match_indices("\"IST").chain(text.match_indices("\"RNG")) {
                    let code: String =
                        text[at + 1..].chars().take_while(char::is_ascii_alphanumeric).collect();
                    if code.len() == 7 {
                        found.insert(code);
                    }
                }
            }
        }
        found
    }

    #[test]
    fn every_code_has_a_row_and_every_row_is_used() {
        let known: BTreeSet<String> = CODES.iter().map(|code| code.id.to_owned()).collect();
        let used = codes_in_sources();
        assert!(used.len() > 20, "{used:?}");
        let without_row: Vec<_> = used.difference(&known).collect();
        let unused: Vec<_> = known.difference(&used).collect();
        assert!(without_row.is_empty(), "not in the table: {without_row:?}");
        assert!(unused.is_empty(), "no finding has: {unused:?}");
    }
}
