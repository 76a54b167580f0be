//! Asking for the addresses of a name: what is asked of which server, and what an answer says.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};

use super::{DnsOptions, Families};

/// A server named on the command line answers within this time, or is asked once more.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// The only server where `/etc/resolv.conf` names none, as of the C library.
const LOCAL_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Addresses of the documentation ranges: is there a route to such a place? Nothing is sent there.
const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const FAR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// What a name was resolved to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Its IPv4 addresses; none when this could not be found out.
    pub(super) v4: Option<Vec<IpAddr>>,
    /// Its IPv6 addresses; none when this could not be found out.
    pub(super) v6: Option<Vec<IpAddr>>,
    /// How long this is good for.
    pub(super) valid_for: Duration,
}

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// The servers say that there is no such name.
    #[error("there is no such name (NXDOMAIN)")]
    NoSuchName,
    /// The name exists, without an address.
    #[error("the name has no address")]
    NoAddress,
    /// No answer.
    #[error("no server answered in time")]
    Timeout,
    /// Something else, in the words of the resolver.
    #[error("{0}")]
    Failed(NetError),
}

/// Asks the servers.
pub(super) struct Resolver {
    resolver: TokioResolver,
    v4: bool,
    v6: bool,
}

impl Resolver {
    /// The resolver of these options. Reads `/etc/resolv.conf` and `/etc/hosts` unless the options
    /// name servers.
    pub(super) fn new(options: &DnsOptions) -> Result<Resolver, NetError> {
        let (config, mut settings) = match options.servers.is_empty() {
            false => named_servers(&options.servers),
            true => match hickory_resolver::system_conf::read_system_conf() {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(
                        "/etc/resolv.conf: {error}; names are asked of {LOCAL_SERVER}:53, or of \
                         the servers that --dns-server names"
                    );
                    named_servers(&[SocketAddr::new(LOCAL_SERVER, 53)])
                }
            },
        };
        settings.use_hosts_file = match options.servers.is_empty() {
            true => ResolveHosts::Always,
            false => ResolveHosts::Never,
        };
        // Names are asked for again when their time is up: a cache would only add to it.
        settings.cache_size = 0;
        let provider = TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(config, provider);
        let resolver = builder.with_options(settings).build()?;
        let (v4, v6) = match options.families {
            Families::V4 => (true, false),
            Families::V6 => (false, true),
            Families::All => (true, true),
            Families::Auto => match (has_route(FAR_V4), has_route(FAR_V6)) {
                // No route to anywhere: what is near may be of either.
                (false, false) => (true, true),
                routes => routes,
            },
        };
        Ok(Resolver { resolver, v4, v6 })
    }

    /// The addresses of a name.
    pub(super) async fn lookup(&self, name: &str) -> Result<Found, LookupError> {
        // As ASCII: in Unicode the resolver takes no underscores, which names of containers have.
        let name = Name::from_ascii(name).map_err(|error| LookupError::Failed(error.into()))?;
        let ask = async |asked: bool, kind: RecordType| match asked {
            true => self.ask(&name, kind).await,
            false => Ok((Vec::new(), None)),
        };
        let (v4, v6) = tokio::join!(ask(self.v4, RecordType::A), ask(self.v6, RecordType::AAAA));
        combine(v4, v6)
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Answer {
        match self.resolver.lookup(name.clone(), kind).await {
            Ok(lookup) => {
                // The aliases on the way stand among the answers.
                let records = lookup.answers().iter();
                let addresses = records.filter_map(|record| record.data.ip_addr()).collect();
                let left = lookup.valid_until().saturating_duration_since(Instant::now());
                Ok((addresses, Some(left)))
            }
            Err(error) if error.is_nx_domain() => Err(LookupError::NoSuchName),
            Err(error) if error.is_no_records_found() => Ok((Vec::new(), None)),
            Err(NetError::Timeout) => Err(LookupError::Timeout),
            Err(error) => Err(LookupError::Failed(error)),
        }
    }
}

/// The addresses of one family, and how long they are good for.
type Answer = Result<(Vec<IpAddr>, Option<Duration>), LookupError>;

/// What the answers of both families come to: with addresses of one, that the other failed only
/// means that it is not known.
fn combine(v4: Answer, v6: Answer) -> Result<Found, LookupError> {
    let has_address =
        |answer: &Answer| answer.as_ref().is_ok_and(|(addresses, _)| !addresses.is_empty());
    if !has_address(&v4) && !has_address(&v6) {
        v4?;
        v6?;
        return Err(LookupError::NoAddress);
    }
    let times = [&v4, &v6].into_iter().filter_map(|answer| answer.as_ref().ok()?.1);
    let valid_for = times.min().unwrap_or_default();
    let known = |answer: Answer| match answer {
        Ok((addresses, _)) => Some(addresses),
        Err(LookupError::NoSuchName) => Some(Vec::new()),
        Err(_) => None,
    };
    Ok(Found { v4: known(v4), v6: known(v6), valid_for })
}

fn named_servers(servers: &[SocketAddr]) -> (ResolverConfig, ResolverOpts) {
    let server = |address: &SocketAddr| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = address.port();
        }
        NameServerConfig::new(address.ip(), true, connections)
    };
    let servers = servers.iter().map(server).collect();
    let mut settings = ResolverOpts::default();
    settings.timeout = SERVER_TIMEOUT;
    (ResolverConfig::from_parts(None, Vec::new(), servers), settings)
}

/// Would a packet to this address leave the machine?
fn has_route(far: IpAddr) -> bool {
    let any: IpAddr = match far {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let connect = || -> io::Result<()> { UdpSocket::bind((any, 0))?.connect((far, 53)) };
    connect().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, seconds: u64) -> Answer {
        Ok((vec![address.parse().expect("an address")], Some(Duration::from_secs(seconds))))
    }

    #[test]
    fn one_family_is_enough_and_the_other_may_be_unknown() {
        let none = || Ok((Vec::new(), None));
        let both = combine(found("10.0.0.1", 30), found("fd00::1", 20)).expect("addresses");
        assert_eq!(both.valid_for, Duration::from_secs(20));
        assert_eq!((both.v4.map(|v4| v4.len()), both.v6.map(|v6| v6.len())), (Some(1), Some(1)));
        let one = combine(found("10.0.0.1", 30), none()).expect("addresses");
        assert_eq!(one.v6, Some(Vec::new()));
        let unknown = combine(found("10.0.0.1", 30), Err(LookupError::Timeout)).expect("addresses");
        assert_eq!(unknown.v6, None);
        let gone = combine(found("10.0.0.1", 30), Err(LookupError::NoSuchName)).expect("addresses");
        assert_eq!(gone.v6, Some(Vec::new()));
    }

    #[test]
    fn without_an_address_the_reason_is_told() {
        let none = || Ok((Vec::new(), None));
        for (v4, v6, reason) in [
            (none(), none(), "the name has no address"),
            (none(), Err(LookupError::Timeout), "no server answered in time"),
            (Err(LookupError::NoSuchName), none(), "there is no such name (NXDOMAIN)"),
        ] {
            assert_eq!(combine(v4, v6).expect_err(reason).to_string(), reason);
        }
    }

    #[test]
    fn every_name_that_passes_validation_can_be_asked_for() {
        for (name, absolute) in [
            ("api.example.com", false),
            ("api.example.com.", true),
            ("my_db.example.com", false),
            ("_db.example.com", false),
            ("localhost", false),
            ("xn--bcher-kva.example", false),
            ("1.example.com", false),
        ] {
            let parsed = Name::from_ascii(name).expect(name);
            assert_eq!((parsed.to_ascii(), parsed.is_fqdn()), (name.to_owned(), absolute));
        }
    }
}
