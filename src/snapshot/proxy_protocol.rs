//! Which listeners ask for the PROXY protocol.

/// The listeners whose connections begin with a header of the PROXY protocol, which tells the client's
/// address (Istio's `gatewayTopology.proxyProtocol`, which is about all of them).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocolPorts {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those that Gateways name by one of these numbers.
    Some(Box<[u16]>),
}

impl ProxyProtocolPorts {
    /// Is a listener with these numbers (`Listener::numbers`) one of them?
    pub fn include(&self, numbers: &[u16]) -> bool {
        match self {
            ProxyProtocolPorts::None => false,
            ProxyProtocolPorts::All => true,
            ProxyProtocolPorts::Some(ports) => numbers.iter().any(|number| ports.contains(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_asked_for_by_any_of_its_numbers() {
        let some = ProxyProtocolPorts::Some([80, 443].into());
        assert!(some.include(&[8080, 443]) && !some.include(&[8080]) && !some.include(&[]));
        assert!(ProxyProtocolPorts::All.include(&[]) && !ProxyProtocolPorts::None.include(&[80]));
    }
}
