//! The peers' configurations: templates of `loadtest/peers`, filled in for a service.

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
}

const NGINX: Templates = Templates {
    http: include_str!("../../../loadtest/peers/nginx/nginx.conf"),
    tcp: include_str!("../../../loadtest/peers/nginx/tcp.conf"),
};
const HAPROXY: Templates = Templates {
    http: include_str!("../../../loadtest/peers/haproxy/haproxy.cfg"),
    tcp: include_str!("../../../loadtest/peers/haproxy/tcp.cfg"),
};
const ENVOY: Templates = Templates {
    http: include_str!("../../../loadtest/peers/envoy/envoy.yaml"),
    tcp: include_str!("../../../loadtest/peers/envoy/tcp.yaml"),
};

/// Where distributions put nginx' module for TCP when it is not built in.
const STREAM_MODULES: [&str; 2] = [
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
];

const ENVOY_TLS: &str = "transport_socket: {name: envoy.transport_sockets.tls, typed_config: \
    {\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, \
    common_tls_context: {alpn_protocols: [\"@ALPN@\"], tls_params: \
    {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}, \
    tls_certificates: [{certificate_chain: {filename: \"@CERTIFICATE@\"}, \
    private_key: {filename: \"@KEY@\"}}]}}}";

const ENVOY_HTTP2_UPSTREAM: &str = "typed_extension_protocol_options: \
    {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
    {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
    explicit_http_config: {http2_protocol_options: {}}}}";

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
    let mut text = if service == Service::Tcp { templates.tcp } else { templates.http }.to_owned();
    let places = match peer {
        Subject::Nginx => nginx(service),
        Subject::Haproxy => haproxy(service),
        _ => envoy(service),
    };
    let options = around.options;
    let connections = options.idle_connections.max(options.connections) + 1024;
    let common = [
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
    // What a place of the service holds may have places itself.
    for (place, value) in places.into_iter().chain(common) {
        text = text.replace(place, &value);
    }
    Some(text)
}

fn path(directory: &Path, file: &str) -> String {
    directory.join(file).display().to_string()
}

/// What the service asks for, in nginx' words.
fn nginx(service: Service) -> Vec<(&'static str, String)> {
    let listen = match service {
        Service::Http1 | Service::Tcp => "",
        Service::Tls => " ssl",
        Service::Http2 | Service::Grpc => " http2",
        Service::Http2Tls => " ssl http2",
    };
    let tls = if service.is_tls() {
        "ssl_certificate @CERTIFICATE@; ssl_certificate_key @KEY@; ssl_protocols TLSv1.3;"
    } else {
        ""
    };
    let pass = if service == Service::Grpc { "grpc_pass grpc" } else { "proxy_pass http" };
    let module = STREAM_MODULES.iter().find(|file| Path::new(file).is_file());
    vec![
        ("@LISTEN@", listen.to_owned()),
        ("@TLS@", tls.to_owned()),
        ("@PASS@", format!("{pass}://hello")),
        ("@STREAM_MODULE@", module.map(|file| format!("load_module {file};")).unwrap_or_default()),
    ]
}

/// What the service asks for, in HAProxy's words.
fn haproxy(service: Service) -> Vec<(&'static str, String)> {
    let bind = match service {
        Service::Http1 | Service::Tcp => "",
        Service::Tls | Service::Http2Tls => " ssl crt @BOTH@ ssl-min-ver TLSv1.3 alpn @ALPN@",
        Service::Http2 | Service::Grpc => " proto h2",
    };
    let server = if service == Service::Grpc { " proto h2" } else { "" };
    vec![("@BIND@", bind.to_owned()), ("@SERVER@", server.to_owned())]
}

/// What the service asks for, in Envoy's words.
fn envoy(service: Service) -> Vec<(&'static str, String)> {
    let codec = if service.protocol().alpn() == "h2" { "HTTP2" } else { "HTTP1" };
    let tls = if service.is_tls() { ENVOY_TLS } else { "" };
    let cluster = if service == Service::Grpc { ENVOY_HTTP2_UPSTREAM } else { "" };
    vec![
        ("@CODEC@", codec.to_owned()),
        ("@TLS@", tls.to_owned()),
        ("@CLUSTER@", cluster.to_owned()),
    ]
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
    fn subjects_that_are_no_peers_have_none() {
        for subject in [Subject::Floor, Subject::Ringress] {
            assert_eq!(text(subject, Service::Http1), None);
        }
    }
}
