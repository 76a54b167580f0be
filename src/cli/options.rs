//! The options of `ringress run`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::access_log_flags::AccessLogFlags;
use crate::compile::{CompileOptions, Locality};
use crate::control::dns::{DnsOptions, Families};
use crate::control::reload::Reloader;
use crate::metrics::LabelTable;
use crate::net::runtime::DriverChoice;
use crate::snapshot::telemetry::PPM;
use crate::snapshot::{ProxyProtocolPorts, Settings};
use crate::trace::{Endpoint, Format};
use crate::validate::ValidateOptions;

/// Port of DNS servers.
const DNS_PORT: u16 = 53;

/// What `ringress run` is told.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// Manifests: a file, or a directory that is searched recursively. May be given several times.
    #[arg(long = "config", value_name = "PATH", required = true)]
    pub config: Vec<PathBuf>,

    /// Labels of this gateway: a Gateway whose selector they satisfy is served here.
    #[arg(long, value_name = "K=V,…", default_value = "istio=ingressgateway", value_parser = parse_labels)]
    pub labels: Labels,

    /// Namespace of this gateway: what `exportTo` and private Gateways are seen from.
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    pub namespace: String,

    /// Suffix of the cluster's service names.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,

    /// Name of this gateway's Deployment, `source_workload` of its metrics.
    #[arg(
        long,
        value_name = "NAME",
        env = "ISTIO_META_WORKLOAD_NAME",
        default_value = "istio-ingressgateway"
    )]
    pub workload: String,

    /// Name of the Kubernetes cluster, `source_cluster` of its metrics.
    #[arg(long, value_name = "NAME", env = "ISTIO_META_CLUSTER_ID", default_value = "Kubernetes")]
    pub cluster_id: String,

    /// Folder with `cert-chain.pem`, `key.pem` and `root-cert.pem` for the mode ISTIO_MUTUAL. Default:
    /// where Istio's agent has them.
    #[arg(long, value_name = "DIR")]
    pub mesh_certificates: Option<PathBuf>,

    /// Listen on PORT for a Gateway server with this number, when no Service of the gateway maps
    /// it. May be given several times or as a comma list.
    #[arg(long, value_name = "NUMBER=PORT", value_delimiter = ',', value_parser = parse_port_map)]
    pub port_map: Vec<(u16, u16)>,

    /// Address to listen on for servers without `bind`. Default: all, IPv4 and IPv6.
    #[arg(long, value_name = "IP")]
    pub bind: Option<IpAddr>,

    /// Worker threads. Default: one per core that this process may use.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,

    /// Cores to pin the workers to, one each. Default: the first ones that this process may use.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub cores: Vec<usize>,

    /// What the workers' I/O runs on.
    #[arg(long, value_enum, default_value_t = DriverOption::Auto)]
    pub driver: DriverOption,

    /// Start with the objects that are good when others are not.
    #[arg(long)]
    pub skip_invalid: bool,

    /// Where the gateway runs: endpoints that are near are preferred as `localityLbSetting` says.
    #[arg(long, value_name = "REGION/ZONE/SUBZONE", value_parser = parse_locality)]
    pub locality: Option<Locality>,

    /// Do not follow changes of the files.
    #[arg(long)]
    pub no_watch: bool,

    /// What to do with HTTP/1.0 requests.
    #[arg(long, value_enum, default_value_t = Http10::Serve)]
    pub http10: Http10,

    /// Proxies in front of this gateway whose `x-forwarded-for` is believed
    /// (`gatewayTopology.numTrustedProxies`).
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub trusted_proxies: u32,

    /// Gateway ports whose connections begin with a header of the PROXY protocol, version 1 or 2
    /// (`gatewayTopology.proxyProtocol`); without a list all. Connections without it are closed.
    #[arg(long, value_name = "NUMBER,…", num_args = 0..=1, require_equals = true,
          default_missing_value = "all", value_parser = parse_proxy_protocol)]
    pub proxy_protocol: Option<ProxyProtocolPorts>,

    /// Close an idle keep-alive connection after this time.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    pub idle_timeout: Duration,

    /// A request head must be complete this long after its first byte.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub request_head_timeout: Duration,

    /// A TLS handshake must be over this long after the connection was accepted.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_duration)]
    pub tls_handshake_timeout: Duration,

    /// Close a connection whose body or response makes no progress for this time.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub progress_timeout: Duration,

    /// After SIGTERM, let requests in flight finish for this time.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub drain_timeout: Duration,

    /// How names of services are resolved.
    #[command(flatten)]
    pub dns: DnsFlags,

    /// Where access log lines go: a file, or `-` for standard output. Default: no access log.
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,

    /// How access log lines look, and which there are.
    #[command(flatten)]
    pub access_log_lines: AccessLogFlags,

    /// Where requests are traced to.
    #[command(flatten)]
    pub tracing: TracingFlags,

    /// Form of the process log, on standard error. `RUST_LOG` says what is in it.
    #[arg(long, value_enum, default_value_t = ProcessLogFormat::Text)]
    pub log_format: ProcessLogFormat,

    /// Count no requests: no Istio metrics, latencies, live pages and objectives. To see what counting costs.
    #[arg(long)]
    pub no_metrics: bool,

    /// Tell clients in `x-ringress-reason` why an answer is the gateway's own (404, 503, redirects, …).
    /// Responses of upstreams never get it.
    #[arg(long)]
    pub explain_header: bool,

    /// Show metrics also under the names that Envoy gives them, for dashboards that look for Envoy.
    #[arg(long)]
    pub envoy_metrics: bool,

    /// Address of the admin ports.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub admin_bind: IpAddr,

    /// Port of the admin pages; 0: any free one (its number is printed); `off`: none.
    #[arg(long, value_name = "PORT|off", default_value = "15000", value_parser = parse_port_or_off)]
    pub admin_port: PortOrOff,

    /// Port of metrics and readiness, Istio's 15020.
    #[arg(long, value_name = "PORT|off", default_value = "15020", value_parser = parse_port_or_off)]
    pub stats_port: PortOrOff,

    /// Port of metrics, Istio's 15090.
    #[arg(long, value_name = "PORT|off", default_value = "15090", value_parser = parse_port_or_off)]
    pub prometheus_port: PortOrOff,

    /// Port of readiness, Istio's 15021.
    #[arg(long, value_name = "PORT|off", default_value = "15021", value_parser = parse_port_or_off)]
    pub health_port: PortOrOff,

    /// Open only the admin port of these.
    #[arg(long)]
    pub admin_only: bool,

    /// Open none of these ports.
    #[arg(long, conflicts_with = "admin_only")]
    pub no_admin: bool,
}

/// What `ringress run` is told about traces.
#[derive(Clone, Debug, Args)]
pub struct TracingFlags {
    /// Collector of spans by OTLP over HTTP (protobuf), such as http://collector:4318. Default: no spans, and
    /// trace contexts of clients pass as they came.
    #[arg(long = "tracing-otlp", value_name = "URL", value_parser = Endpoint::parse)]
    pub otlp: Option<Endpoint>,

    /// Formats in which trace contexts are read and written; when a client sends several that differ, the
    /// first one here counts.
    #[arg(
        long = "tracing-propagation",
        value_enum,
        value_name = "FORMAT,…",
        value_delimiter = ',',
        default_value = "w3c"
    )]
    pub propagation: Vec<PropagationFormat>,

    /// How many of the requests whose client did not decide are sampled, per cent, where no Telemetry
    /// resource says it (`randomSamplingPercentage`).
    #[arg(long = "tracing-sampling", value_name = "PERCENT", default_value = "1",
          value_parser = parse_percentage)]
    pub sampling_ppm: u32,

    /// The service that spans are of. Default: `istio-ingressgateway.` and the gateway's namespace.
    #[arg(long = "tracing-service-name", value_name = "NAME")]
    pub service_name: Option<String>,
}

/// A value of `--tracing-propagation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PropagationFormat {
    /// `traceparent` and `tracestate` of W3C Trace Context.
    W3c,
    /// `x-b3-traceid` and its like, or `b3`.
    B3,
}

impl From<PropagationFormat> for Format {
    fn from(format: PropagationFormat) -> Format {
        match format {
            PropagationFormat::W3c => Format::W3c,
            PropagationFormat::B3 => Format::B3,
        }
    }
}

/// What `ringress run` is told about names of services.
#[derive(Clone, Debug, Args)]
pub struct DnsFlags {
    /// Server to ask for the names of ServiceEntries and ExternalName Services. May be given several
    /// times. Default: the system's, `/etc/hosts` before `/etc/resolv.conf`.
    #[arg(long = "dns-server", value_name = "ADDR:PORT", value_parser = parse_dns_server)]
    servers: Vec<SocketAddr>,

    /// Addresses that names are resolved to.
    #[arg(long = "dns-family", value_enum, default_value_t = DnsFamily::Auto)]
    family: DnsFamily,
}

impl DnsFlags {
    /// The options of the resolver.
    pub fn options(&self) -> DnsOptions {
        let families = match self.family {
            DnsFamily::Auto => Families::Auto,
            DnsFamily::V4 => Families::V4,
            DnsFamily::V6 => Families::V6,
            DnsFamily::All => Families::All,
        };
        DnsOptions { servers: self.servers.clone(), families }
    }
}

/// `--dns-family`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DnsFamily {
    /// Those that this machine has a route for.
    Auto,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// IPv4 and IPv6.
    All,
}

/// The gateway that a command looks at manifests for, without serving them.
#[derive(Clone, Debug, Args)]
pub(super) struct GatewayOptions {
    /// Labels of the gateway that is to serve the manifests.
    #[arg(long, value_name = "K=V,…", default_value = "istio=ingressgateway", value_parser = parse_labels)]
    labels: Labels,

    /// Namespace of that gateway.
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    namespace: String,

    /// Where the gateway runs: endpoints that are near are preferred as `localityLbSetting` says.
    #[arg(long, value_name = "REGION/ZONE/SUBZONE", value_parser = parse_locality)]
    locality: Option<Locality>,

    /// Suffix of the cluster's service names.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,

    /// Folder with `cert-chain.pem`, `key.pem` and `root-cert.pem` for the mode ISTIO_MUTUAL. Default:
    /// where Istio's agent has them.
    #[arg(long, value_name = "DIR")]
    mesh_certificates: Option<PathBuf>,
}

impl GatewayOptions {
    /// Reads manifests as this gateway would.
    pub(super) fn reloader(&self, paths: Vec<PathBuf>) -> Reloader {
        let validate = ValidateOptions {
            labels: self.labels.0.clone(),
            namespace: self.namespace.clone(),
            cluster_domain: self.cluster_domain.clone(),
        };
        let compile = CompileOptions {
            labels: self.labels.0.clone(),
            namespace: self.namespace.clone(),
            locality: self.locality.clone(),
            cluster_domain: self.cluster_domain.clone(),
            port_map: BTreeMap::new(),
            bind: IpAddr::from([0, 0, 0, 0]),
            settings: Settings { hostname: crate::net::hostname().into(), ..Settings::default() },
        };
        Reloader::new(paths, validate, compile, LabelTable::shared())
            .with_mesh_folder(self.mesh_certificates.clone())
    }
}

/// A port, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortOrOff(pub Option<u16>);

/// Labels of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub BTreeMap<String, String>);

/// `--driver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DriverOption {
    /// The cheapest that this machine allows.
    Auto,
    /// io_uring, or an error that says why not.
    #[value(name = "io_uring")]
    IoUring,
    /// epoll.
    Epoll,
}

impl From<DriverOption> for DriverChoice {
    fn from(option: DriverOption) -> DriverChoice {
        match option {
            DriverOption::Auto => DriverChoice::Auto,
            DriverOption::IoUring => DriverChoice::IoUring,
            DriverOption::Epoll => DriverChoice::Epoll,
        }
    }
}

/// `--http10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Http10 {
    /// Serve them.
    Serve,
    /// Answer 426 as Istio does.
    Reject,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProcessLogFormat {
    /// A line for people.
    Text,
    /// One JSON object a line.
    Json,
}

fn parse_locality(text: &str) -> Result<Locality, String> {
    let parts: Vec<&str> = text.split('/').collect();
    if parts.len() > 3 || parts.iter().any(|part| part.is_empty() || part.contains('*')) {
        return Err("write REGION, REGION/ZONE or REGION/ZONE/SUBZONE".to_owned());
    }
    Ok(Locality::parse(text))
}

pub(super) fn parse_labels(text: &str) -> Result<Labels, String> {
    let mut labels = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("`{pair}` is not of the form key=value"))?;
        labels.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Ok(Labels(labels))
}

fn parse_port_or_off(text: &str) -> Result<PortOrOff, String> {
    if text == "off" {
        return Ok(PortOrOff(None));
    }
    match text.parse() {
        Ok(port) => Ok(PortOrOff(Some(port))),
        Err(_) => Err(format!("`{text}` is neither a port (0 to 65535) nor `off`")),
    }
}

fn parse_port_map(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| match text.trim().parse::<u16>() {
        Ok(0) | Err(_) => Err(format!("`{text}` is not a port number (1 to 65535)")),
        Ok(port) => Ok(port),
    };
    let (number, target) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not of the form NUMBER=PORT, such as 80=8080"))?;
    Ok((port(number)?, port(target)?))
}

/// A percentage in millionths.
fn parse_percentage(text: &str) -> Result<u32, String> {
    let percentage = text.parse().ok().filter(|percentage| (0.0..=100.0).contains(percentage));
    let percentage: f64 =
        percentage.ok_or_else(|| format!("`{text}` is not a percentage from 0 to 100"))?;
    Ok((percentage * f64::from(PPM) / 100.0).round() as u32)
}

/// `10.0.0.10`, `10.0.0.10:5353`, `[fd00::1]:5353`.
fn parse_dns_server(text: &str) -> Result<SocketAddr, String> {
    let bare = || text.parse().map(|address: IpAddr| SocketAddr::new(address, DNS_PORT));
    text.parse()
        .or_else(|_| bare())
        .map_err(|_| format!("`{text}` is not an IP address with a port, such as 10.0.0.10:53"))
}

/// `all`, or a comma list of port numbers.
fn parse_proxy_protocol(text: &str) -> Result<ProxyProtocolPorts, String> {
    if text == "all" {
        return Ok(ProxyProtocolPorts::All);
    }
    let port = |number: &str| number.parse().ok().filter(|number: &u16| *number > 0);
    let ports: Option<Box<[u16]>> = text.split(',').map(port).collect();
    ports
        .map(ProxyProtocolPorts::Some)
        .ok_or_else(|| format!("`{text}` is not a list of ports such as 80,443"))
}

/// `500ms`, `30s`, `5m`, `1h`; a bare number counts seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("`{text}` is not a time such as 500ms, 30s, 5m or 1h"))?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    milliseconds
        .filter(|milliseconds| *milliseconds > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a time such as 500ms, 30s, 5m or 1h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_proxy_protocol_are_read() {
        assert_eq!(parse_proxy_protocol("all"), Ok(ProxyProtocolPorts::All));
        let some = parse_proxy_protocol("80,443").expect("two ports");
        assert!(some.include(&[443]) && some.include(&[8080, 80]) && !some.include(&[8080]));
        for wrong in ["", "80,", "0", "70000", "http", "-1"] {
            assert!(parse_proxy_protocol(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn percentages_are_read_in_millionths() {
        for (text, ppm) in [("0", 0), ("1", 10_000), ("0.01", 100), ("33.3333", 333_333)] {
            assert_eq!(parse_percentage(text), Ok(ppm), "{text}");
        }
        assert_eq!(parse_percentage("100"), Ok(PPM));
        for bad in ["", "-1", "100.1", "NaN", "inf", "1%"] {
            assert!(parse_percentage(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_with_their_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        for bad in ["", "s", "0s", "1d", "-1s", "1.5s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_labels_and_servers_are_read() {
        assert_eq!(parse_port_map("80=8080"), Ok((80, 8080)));
        for bad in ["80", "80=", "0=80", "80=70000"] {
            assert!(parse_port_map(bad).is_err(), "{bad}");
        }
        for (text, server) in [
            ("10.0.0.10", Some("10.0.0.10:53")),
            ("10.0.0.10:5353", Some("10.0.0.10:5353")),
            ("fd00::1", Some("[fd00::1]:53")),
            ("[fd00::1]:5353", Some("[fd00::1]:5353")),
            ("dns.example.com", None),
        ] {
            let parsed = parse_dns_server(text).ok().map(|server| server.to_string());
            assert_eq!(parsed.as_deref(), server, "{text}");
        }
        let labels = parse_labels("istio=ingressgateway,app=edge").expect("two pairs");
        assert_eq!(labels.0.len(), 2);
        assert!(parse_labels("istio").is_err());
    }
}
