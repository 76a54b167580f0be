//! Where a connection would go whose bytes are not HTTP: `tls://name:port` and `tcp://:port`. By the table
//! that the compiler made; nothing listens for them yet, and the answer says so.

use serde_json::{Value, json};

use super::answer::describe_destination;
use super::{AskError, ExplainError};
use crate::snapshot::Snapshot;

/// A connection that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedConnection {
    /// The server that it names (TLS).
    pub name: Option<String>,
    /// The port, as Gateways write it.
    pub port: u16,
}

impl AskedConnection {
    /// Read `tls://name:port` or `tcp://:port`; none: it is neither.
    pub fn new(text: &str) -> Option<Result<AskedConnection, AskError>> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let default = match scheme {
            "tls" => Some("443"),
            "tcp" => None,
            _ => return None,
        };
        let rest = rest.trim_end_matches('/');
        let (name, port) = match (rest.rsplit_once(':'), default) {
            (Some((name, port)), _) => (name, port),
            (None, Some(port)) => (rest, port),
            (None, None) => return Some(Err(AskError::Port(rest.to_owned()))),
        };
        let Ok(port) = port.parse() else { return Some(Err(AskError::Port(port.to_owned()))) };
        if scheme == "tls" && name.is_empty() {
            return Some(Err(AskError::Host(text.to_owned())));
        }
        let name = (scheme == "tls").then(|| name.to_owned());
        Some(Ok(AskedConnection { name, port }))
    }
}

/// What becomes of a connection.
///
/// # Errors
/// No Gateway has such a server on the port.
pub fn connection(snapshot: &Snapshot, asked: &AskedConnection) -> Result<Value, ExplainError> {
    let has_names = asked.name.is_some();
    let all = || snapshot.connection_ports.iter().filter(|port| port.has_names == has_names);
    let Some(port) = all().find(|port| port.number == asked.port) else {
        let open: Vec<String> = all().map(|port| port.number.to_string()).collect();
        let open = if open.is_empty() { "none".to_owned() } else { open.join(", ") };
        return Err(ExplainError::NoSuchPort { port: asked.port, open });
    };
    let found = port.find(asked.name.as_deref());
    let routes = port.routes.iter().enumerate().map(|(number, route)| {
        json!({
            "name": route.field,
            "virtualService": route.virtual_service,
            "mismatch": (found != Some(number)).then(|| {
                format!("another name is nearer than its {}", route.server_names.join(", "))
            }),
        })
    });
    let forward = found.and_then(|number| port.routes.get(number)).map(|route| &route.forward);
    let destinations = forward.into_iter().flat_map(|forward| {
        let tell = |destination| describe_destination(snapshot, forward, destination);
        forward.destinations().iter().map(tell)
    });
    Ok(json!({
        "listener": { "address": port.address.to_string(), "gateways": port.gateways },
        "serverName": asked.name,
        "routes": routes.collect::<Vec<_>>(),
        "destinations": destinations.collect::<Vec<_>>(),
        "notServed": "connections that are not HTTP in clear text are not served yet: nothing listens",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_a_scheme_a_name_and_a_port() {
        let asked = |name: Option<&str>, port| {
            Some(Ok(AskedConnection { name: name.map(str::to_owned), port }))
        };
        assert_eq!(AskedConnection::new("tls://a.com:8443"), asked(Some("a.com"), 8443));
        assert_eq!(AskedConnection::new("tls://a.com/"), asked(Some("a.com"), 443));
        assert_eq!(AskedConnection::new("tcp://:3306"), asked(None, 3306));
        assert_eq!(AskedConnection::new("GET http://a.com"), None);
        for wrong in ["tls://:443", "tcp://a.com", "tcp://:x", "tls://a.com:70000"] {
            assert!(matches!(AskedConnection::new(wrong), Some(Err(_))), "{wrong}");
        }
    }
}
