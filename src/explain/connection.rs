//! Where a connection would go: `tls://name:port` and `tcp://:port`, by the table that the compiler made.

use serde_json::{Value, json};

use super::answer::describe_destination;
use super::{AskError, ExplainError};
use crate::config::naming::covers;
use crate::snapshot::{
    Chain, ChainContent, ConnectionRule, Listener, RuleOutcome, Serves, Snapshot,
};

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
    let fits = |listener: &&Listener| match (&listener.serves, &asked.name) {
        (Serves::Tls(_), name) => name.is_some(),
        (Serves::Bytes(_), name) => name.is_none(),
        (Serves::Requests { .. }, _) => false,
    };
    let of_port = |listener: &&Listener| listener.numbers.contains(&asked.port);
    // A port may be open on several addresses: each is answered for.
    let found: Vec<&Listener> = snapshot.listeners.iter().filter(fits).filter(of_port).collect();
    let mut answers = found.iter().map(|listener| answer(snapshot, listener, asked));
    let Some(mut first) = answers.next() else {
        let open = super::ports(snapshot.listeners.iter().filter(fits));
        return Err(ExplainError::NoSuchPort { port: asked.port, open });
    };
    let others: Vec<Value> = answers.collect();
    if !others.is_empty() {
        first["alsoOn"] = others.into();
    }
    Ok(first)
}

fn answer(snapshot: &Snapshot, listener: &Listener, asked: &AskedConnection) -> Value {
    let name = asked.name.as_deref();
    let (chains, taken, rules) = match &listener.serves {
        Serves::Tls(port) => (&port.chains[..], port.find(name), &port.rules[..]),
        Serves::Bytes(port) => (&[][..], Some(0), &port.rules[..]),
        Serves::Requests { .. } => (&[][..], None, &[][..]),
    };
    let chain = taken.and_then(|taken| chains.get(taken));
    let forward = match (&listener.serves, chain.map(|chain| &chain.content)) {
        (Serves::Bytes(port), _) => Some(&port.route.forward),
        (_, Some(ChainContent::Connection(route))) => Some(&route.forward),
        _ => None,
    };
    let routes = rules.iter().map(|rule| {
        json!({
            "name": rule.field,
            "virtualService": rule.virtual_service,
            "mismatch": mismatch(rule, taken, chain, name),
        })
    });
    let destinations = forward.into_iter().flat_map(|forward| {
        let tell = |destination| describe_destination(snapshot, forward, destination);
        forward.destinations().iter().map(tell)
    });
    let note = match (chain, &listener.serves) {
        (None, Serves::Tls(_)) => {
            Some("no server of the port has this name: the connection is closed".to_owned())
        }
        (Some(chain), _) if matches!(chain.content, ChainContent::Requests { .. }) => {
            Some(format!("TLS ends here: {} routes the requests in it", chain.name))
        }
        _ => None,
    };
    json!({
        "listener": { "address": listener.address.to_string(), "gateways": listener.gateways },
        "serverName": asked.name,
        "routes": routes.collect::<Vec<_>>(),
        "destinations": destinations.collect::<Vec<_>>(),
        "note": note,
    })
}

/// Why a rule does not take a connection; none: it does.
fn mismatch(
    rule: &ConnectionRule,
    taken: Option<usize>,
    chain: Option<&Chain>,
    name: Option<&str>,
) -> Option<String> {
    match &rule.outcome {
        RuleOutcome::NotUsed(reason) => Some(reason.clone()),
        RuleOutcome::Used(chain) if Some(*chain) == taken => None,
        RuleOutcome::Used(_) => {
            let name = name.unwrap_or_default().to_ascii_lowercase();
            let fits = |own: &&String| covers(&own.to_ascii_lowercase(), &name);
            Some(match (rule.server_names.iter().find(fits), chain) {
                (Some(own), Some(nearer)) => format!(
                    "`{own}` fits, but {} has a nearer name ({})",
                    nearer.name,
                    nearer.server_names.join(", ")
                ),
                _ => format!("none of its server names fits ({})", rule.server_names.join(", ")),
            })
        }
    }
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
