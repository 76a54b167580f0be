//! Istio's admin ports, and binding them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// What a port serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminRole {
    /// Every page (Istio: Envoy's admin port, 15000).
    Admin,
    /// Metrics and readiness (Istio: the agent's merged metrics, 15020).
    Stats,
    /// Metrics (Istio: Envoy's own metrics, 15090).
    Prometheus,
    /// Readiness (Istio: the probe of Kubernetes and load balancers, 15021).
    Health,
}

impl AdminRole {
    /// The command line flag that changes the port.
    pub fn flag(self) -> &'static str {
        match self {
            AdminRole::Admin => "--admin-port",
            AdminRole::Stats => "--stats-port",
            AdminRole::Prometheus => "--prometheus-port",
            AdminRole::Health => "--health-port",
        }
    }
}

/// Where to listen. A port that is `None` is switched off; port 0 takes any free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// The address of all ports.
    pub bind: IpAddr,
    /// [`AdminRole::Admin`]
    pub admin_port: Option<u16>,
    /// [`AdminRole::Stats`]
    pub stats_port: Option<u16>,
    /// [`AdminRole::Prometheus`]
    pub prometheus_port: Option<u16>,
    /// [`AdminRole::Health`]
    pub health_port: Option<u16>,
}

impl Default for AdminConfig {
    /// Istio's ports on loopback.
    fn default() -> Self {
        AdminConfig {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            admin_port: Some(15000),
            stats_port: Some(15020),
            prometheus_port: Some(15090),
            health_port: Some(15021),
        }
    }
}

impl AdminConfig {
    /// Bind every port that is on, before anything is served, so that a start either has all of
    /// them or says which one is missing.
    pub fn listen(&self) -> Result<AdminListeners, AdminError> {
        let ports = [
            (AdminRole::Admin, self.admin_port),
            (AdminRole::Stats, self.stats_port),
            (AdminRole::Prometheus, self.prometheus_port),
            (AdminRole::Health, self.health_port),
        ];
        let mut listeners = Vec::with_capacity(ports.len());
        for (role, port) in ports {
            let Some(port) = port else { continue };
            let address = SocketAddr::new(self.bind, port);
            let bound = TcpListener::bind(address)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .map_err(|error| AdminError::of(role, address, error))?;
            listeners.push((role, bound));
        }
        Ok(AdminListeners { listeners })
    }
}

/// Bound ports.
#[derive(Debug)]
pub struct AdminListeners {
    pub(super) listeners: Vec<(AdminRole, TcpListener)>,
}

impl AdminListeners {
    /// What is served where; with port 0 this is the way to the port that was taken.
    pub fn addresses(&self) -> Vec<(AdminRole, SocketAddr)> {
        let all = self.listeners.iter();
        all.filter_map(|(role, listener)| Some((*role, listener.local_addr().ok()?))).collect()
    }
}

/// Why the admin server could not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Somebody listens there.
    #[error(
        "admin port {address} is in use; stop what listens there, choose another with {flag} PORT, \
         or switch it off with {flag} off"
    )]
    PortInUse {
        /// The address.
        address: SocketAddr,
        /// The flag that changes it.
        flag: &'static str,
    },
    /// The address is not one of this machine, or the port needs a right that we lack.
    #[error(
        "cannot listen on admin port {address}: {error}; choose another with {flag} PORT or change \
         --admin-bind"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The flag that changes it.
        flag: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The runtime did not take a bound socket.
    #[error("cannot serve the admin pages: {0}; raise the limit of open files (ulimit -n)")]
    Runtime(#[source] io::Error),
}

impl AdminError {
    fn of(role: AdminRole, address: SocketAddr, error: io::Error) -> AdminError {
        let flag = role.flag();
        match error.kind() {
            io::ErrorKind::AddrInUse => AdminError::PortInUse { address, flag },
            _ => AdminError::Bind { address, flag, error },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: AdminConfig = AdminConfig {
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        admin_port: None,
        stats_port: None,
        prometheus_port: None,
        health_port: None,
    };

    #[test]
    fn a_port_in_use_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = AdminConfig { health_port: Some(port), ..OFF }.listen().unwrap_err();
        assert!(matches!(error, AdminError::PortInUse { flag: "--health-port", .. }));
        let text = error.to_string();
        assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("--health-port"));
    }

    #[test]
    fn a_foreign_address_is_an_error_of_its_own() {
        let bind = "192.0.2.1".parse().unwrap();
        let error = AdminConfig { bind, admin_port: Some(0), ..OFF }.listen().unwrap_err();
        assert!(matches!(error, AdminError::Bind { flag: "--admin-port", .. }), "{error}");
    }

    #[test]
    fn ports_that_are_off_are_not_bound() {
        assert!(OFF.listen().unwrap().addresses().is_empty());
        let listeners = AdminConfig { stats_port: Some(0), ..OFF }.listen().unwrap();
        let [(AdminRole::Stats, address)] = listeners.addresses()[..] else {
            panic!("{listeners:?}")
        };
        assert_ne!(address.port(), 0);
    }
}
