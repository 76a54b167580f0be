//! The proxies' configurations: templates of `loadtest/peers`, filled in for a service.
//!
//! What differs between services stands in a file `words` beside each template; `loadtest/peers/README.md`
//! says how the two are read, and the scripts of `loadtest` read them in the same way.

use std::path::Path;

use crate::service::Service;
use crate::subject::{Subject, Surroundings};
use crate::tls::{BOTH_FILE, CERTIFICATE_FILE, KEY_FILE};

/// The templates of one peer.
struct Templates {
    /// Of every service with requests.
    http: &'static str,
    /// Of [`Service::Tcp`].
    tcp: &'static str,
    /// What differs between services.
    words: &'static str,
}

const NGINX: Templates = Templates {
    http: include_str!("../../../loadtest/peers/nginx/nginx.conf"),
    tcp: include_str!("../../../loadtest/peers/nginx/tcp.conf"),
    words: include_str!("../../../loadtest/peers/nginx/words"),
};
const HAPROXY: Templates = Templates {
    http: include_str!("../../../loadtest/peers/haproxy/haproxy.cfg"),
    tcp: include_str!("../../../loadtest/peers/haproxy/tcp.cfg"),
    words: include_str!("../../../loadtest/peers/haproxy/words"),
};
const ENVOY: Templates = Templates {
    http: include_str!("../../../loadtest/peers/envoy/envoy.yaml"),
    tcp: include_str!("../../../loadtest/peers/envoy/tcp.yaml"),
    words: include_str!("../../../loadtest/peers/envoy/words"),
};

/// Where distributions put nginx' module for TCP when it is not built in.
const STREAM_MODULES: [&str; 2] = [
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
];

/// A peer's configuration; `None` for a subject that is none.
pub(crate) fn configuration(
    peer: Subject,
    service: Service,
    around: &Surroundings<'_>,
    port: u16,
) -> Option<String> {
    let templates = match peer {
        Subject::Nginx => NGINX,
        Subject::Haproxy => HAPROXY,
        Subject::Envoy => ENVOY,
        Subject::Floor | Subject::Ringress => return None,
    };
    let template = if service == Service::Tcp { templates.tcp } else { templates.http };
    let text = fill(template, &words(templates.words, service));
    let module = STREAM_MODULES.iter().find(|file| Path::new(file).is_file());
    let options = around.options;
    let connections = options.idle_connections.max(options.connections) + 1024;
    let common = [
        ("@STREAM_MODULE@", module.map(|file| format!("load_module {file};")).unwrap_or_default()),
        ("@ALPN@", service.protocol().alpn().to_owned()),
        ("@CERTIFICATE@", path(around.directory, CERTIFICATE_FILE)),
        ("@KEY@", path(around.directory, KEY_FILE)),
        ("@BOTH@", path(around.directory, BOTH_FILE)),
        ("@PORT@", port.to_string()),
        ("@BACKEND_PORT@", around.upstream_port(service).to_string()),
        ("@DIR@", around.directory.display().to_string()),
        ("@CONNECTIONS@", connections.to_string()),
        ("@FILES@", (2 * connections).to_string()),
    ];
    // What a word of the service stands for may hold words itself.
    Some(fill(&text, &common))
}

/// What every word of a `words` file stands for in a service, nothing where no line is for it.
pub(crate) fn words(file: &str, service: Service) -> Vec<(&str, &str)> {
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.filter_map(|line| {
        let (services, rest) = line.split_once(char::is_whitespace)?;
        let (word, text) = rest.trim_start().split_once(char::is_whitespace)?;
        Some((services, word, text.trim()))
    });
    let mut found: Vec<(&str, &str)> = Vec::new();
    for (services, word, text) in fields {
        let ours = services.split(',').any(|name| name == service.name());
        let text = if ours { text } else { "" };
        match found.iter_mut().find(|(name, _)| *name == word) {
            Some(place) if ours => place.1 = text,
            Some(_) => {}
            None => found.push((word, text)),
        }
    }
    found
}

/// A text with each of `words` replaced by what it stands for.
pub(crate) fn fill<T: AsRef<str>>(text: &str, words: &[(&str, T)]) -> String {
    words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value.as_ref()))
}

fn path(directory: &Path, file: &str) -> String {
    directory.join(file).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::tls::Identity;

    const PEERS: [Subject; 3] = [Subject::Nginx, Subject::Haproxy, Subject::Envoy];

    fn text(subject: Subject, service: Service) -> Option<String> {
        let options = Options::parse(std::iter::empty()).expect("good").expect("no help");
        let around = Surroundings {
            options: &options,
            directory: Path::new("/dir"),
            identity: &Identity { certificate: String::new(), key: String::new() },
            http1_port: 4321,
            grpc_port: 8765,
        };
        configuration(subject, service, &around, 1234)
    }

    #[test]
    fn templates_have_no_place_left_open() {
        for (peer, service) in
            PEERS.into_iter().flat_map(|peer| Service::ALL.map(|service| (peer, service)))
        {
            let text = text(peer, service).expect("a peer");
            let upstream = if service == Service::Grpc { "8765" } else { "4321" };
            assert!(text.contains(upstream) && text.contains("1234"), "{text}");
            for word in text.split(|c: char| !(c.is_ascii_uppercase() || "@_".contains(c))) {
                let open = word.len() > 2 && word.starts_with('@') && word.ends_with('@');
                assert!(!open, "{word} is left open");
            }
        }
    }

    #[test]
    fn only_services_over_tls_have_a_certificate() {
        for (peer, service) in
            PEERS.into_iter().flat_map(|peer| Service::ALL.map(|service| (peer, service)))
        {
            let names_one = text(peer, service).is_some_and(|text| text.contains(".pem"));
            assert_eq!(names_one, service.is_tls(), "{peer:?} {service:?}");
        }
    }

    #[test]
    fn words_are_those_of_the_service_and_else_empty() {
        let file = "# a comment\ntls,tcp @A@   one two \nhttp1 @A@ three\nhttp2 @B@ four\n";
        assert_eq!(words(file, Service::Tls), [("@A@", "one two"), ("@B@", "")]);
        assert_eq!(words(file, Service::Http1), [("@A@", "three"), ("@B@", "")]);
        assert_eq!(words(file, Service::Grpc), [("@A@", ""), ("@B@", "")]);
        assert_eq!(fill("x @A@ @A@ @C@", &words(file, Service::Http1)), "x three three @C@");
    }

    #[test]
    fn subjects_that_are_no_peers_have_none() {
        for subject in [Subject::Floor, Subject::Ringress] {
            assert_eq!(text(subject, Service::Http1), None);
        }
    }
}
